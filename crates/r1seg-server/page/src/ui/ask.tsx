// Where one asks: in words, or by choosing from what a model knows.

import type { JSX } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import { app, currentModel } from "../state/app";
import { ask } from "../state/asking";
import { askingOf, classesOf, refiners } from "../state/capabilities";
import { useStore } from "../state/store";
import type { ModelInfo } from "../types";
import { Icon } from "./icon";

export function AskPanel(): JSX.Element | null {
  const model = useStore(app, currentModel);
  if (!model) return null;
  const asking = askingOf(model);
  if (asking === "none") return null;
  return (
    <div class="ask">
      {asking === "classes" ? <ClassList model={model} /> : <Question model={model} asking={asking} />}
      <Options model={model} />
    </div>
  );
}

function Question({ model, asking }: { model: ModelInfo; asking: "question" | "text" }): JSX.Element {
  const ready = useStore(app, (s) => s.volume !== null && s.connection === "open");
  const fresh = useStore(app, (s) => s.turns.length === 0);
  const [text, setText] = useState("");
  const input = useRef<HTMLTextAreaElement>(null);
  const send = (): void => {
    if (!ready || !text.trim()) return;
    ask(text);
    setText("");
    input.current?.focus();
  };
  const label = asking === "question" ? "Ask about this CT" : "Name what to segment";
  return (
    <>
      {fresh && ready && model.examples.length > 0 && (
        <div class="examples">
          <p class="muted">{asking === "question" ? "For example" : "Such as"}</p>
          <div class="chips">
            {model.examples.slice(0, 5).map((example) => (
              <button key={example} class="chip" onClick={() => ask(example)}>
                {example}
              </button>
            ))}
          </div>
        </div>
      )}
      <form
        class="ask-box"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <textarea
          id="ask"
          ref={input}
          rows={2}
          value={text}
          disabled={!ready}
          aria-label={label}
          placeholder={ready ? `${label}…` : "Open a scan, then ask"}
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
              event.preventDefault();
              send();
            }
            if (event.key === "Escape") event.currentTarget.blur();
          }}
        />
        <button class="send" type="submit" aria-label="Ask" title="Ask (Enter)" disabled={!ready || !text.trim()}>
          <Icon name="send" />
        </button>
      </form>
    </>
  );
}

function ClassList({ model }: { model: ModelInfo }): JSX.Element {
  const ready = useStore(app, (s) => s.volume !== null && s.connection === "open");
  const turns = useStore(app, (s) => s.turns);
  const [search, setSearch] = useState("");
  const classes = useMemo(() => classesOf(model), [model]);
  const found = classes.filter((name) => name.toLowerCase().includes(search.trim().toLowerCase()));
  const asked = new Set(turns.filter((turn) => turn.model === model.id).map((turn) => turn.text));
  return (
    <div class="classes">
      <label class="search">
        <Icon name="search" />
        <input
          id="ask"
          type="search"
          aria-label={`Search the ${classes.length} structures that this model knows`}
          placeholder={`Search ${classes.length} structures…`}
          value={search}
          disabled={!ready}
          onInput={(event) => setSearch(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && found[0]) ask(found[0]);
            if (event.key === "Escape") event.currentTarget.blur();
          }}
        />
      </label>
      <ul class="class-list" aria-label="Structures" tabIndex={0}>
        {found.map((name) => (
          <li key={name}>
            <button class="class" disabled={!ready} onClick={() => ask(name)}>
              <span class="grow">{name}</span>
              {asked.has(name) && <Icon name="check" />}
            </button>
          </li>
        ))}
        {found.length === 0 && <li class="muted nothing">This model does not know “{search}”.</li>}
      </ul>
    </div>
  );
}

function Options({ model }: { model: ModelInfo }): JSX.Element | null {
  const models = useStore(app, (s) => s.models);
  const mode = useStore(app, (s) => s.mode);
  const refineWith = useStore(app, (s) => s.refineWith);
  const open = useStore(app, (s) => s.volume !== null);
  const others = refiners(models, model);
  const { modes } = model.capabilities;
  if (!open || (others.length === 0 && modes.length < 2)) return null;
  return (
    <div class="ask-options">
      {modes.length > 1 && (
        <label class="field">
          <span class="muted">Mode</span>
          <select value={mode ?? ""} onChange={(event) => app.set({ mode: event.currentTarget.value || null })}>
            {modes.map((name, index) => (
              <option key={name} value={index === 0 ? "" : name}>
                {name}
              </option>
            ))}
          </select>
        </label>
      )}
      {others.length > 0 && (
        <label class="field">
          <span class="muted">Refine with</span>
          <select value={refineWith ?? ""} onChange={(event) => app.set({ refineWith: event.currentTarget.value || null })}>
            <option value="">nothing</option>
            {others.map(({ id }) => (
              <option key={id} value={id}>
                {id}
              </option>
            ))}
          </select>
        </label>
      )}
    </div>
  );
}
