// The column beside the scan: questions and answers, and where one asks.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { app, currentModel } from "../state/app";
import { askingOf, takesBox, takesPoints } from "../state/capabilities";
import { discard, finish, undo } from "../state/drafts";
import { useStore } from "../state/store";
import { AskPanel } from "./ask";
import { Icon } from "./icon";
import { TurnCard } from "./turn";

export function Side(): JSX.Element {
  const turns = useStore(app, (s) => s.turns);
  const volume = useStore(app, (s) => s.volume);
  const list = useRef<HTMLDivElement>(null);
  const last = turns.at(-1);
  useEffect(() => {
    list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [turns.length, last?.status, last?.stage]);
  return (
    <aside class="side" aria-label="Questions and answers">
      <div class="side-head">
        <h2>Questions</h2>
        {turns.length > 0 && <span class="muted">{turns.length}</span>}
      </div>
      <div class="turns" ref={list} tabIndex={0} role="region" aria-label="Answers">
        {turns.length === 0 && <Hint open={volume !== null} />}
        {turns.map((turn) => (
          <TurnCard key={turn.id} turn={turn} />
        ))}
      </div>
      <DraftPanel />
      <AskPanel />
    </aside>
  );
}

function Hint({ open }: { open: boolean }): JSX.Element {
  const model = useStore(app, currentModel);
  const asking = askingOf(model);
  const draws = takesPoints(model) || takesBox(model);
  if (!open) {
    return (
      <div class="hint">
        <p>{asking === "question" ? "Ask in plain words. The answer comes as text, and as a mask on the scan." : "Masks and their volumes will be listed here."}</p>
        {asking === "question" && (
          <ul>
            {model?.examples.slice(0, 4).map((example) => <li key={example}>{example}</li>)}
          </ul>
        )}
      </div>
    );
  }
  return (
    <div class="hint">
      {asking === "question" && <p>Ask in plain words. The answer comes as text, and as a mask on the scan.</p>}
      {asking === "text" && <p>Name an organ or a structure, and the model draws it.</p>}
      {asking === "classes" && <p>Choose a structure below, and the model draws it.</p>}
      {draws && (
        <p>
          {takesPoints(model) && (
            <>
              Press <kbd>p</kbd> and click into what you want; <kbd>n</kbd> for what does not belong to it.{" "}
            </>
          )}
          {takesBox(model) && (
            <>
              Press <kbd>b</kbd> and draw a box around it.
            </>
          )}
        </p>
      )}
    </div>
  );
}

/** The object that is being drawn with points and a box. */
function DraftPanel(): JSX.Element | null {
  const draft = useStore(app, (s) => s.draft);
  if (draft.history.length === 0) return null;
  const inside = draft.points.filter((point) => point.positive).length;
  const outside = draft.points.length - inside;
  const parts = [
    inside > 0 ? `${inside} inside` : "",
    outside > 0 ? `${outside} outside` : "",
    draft.box ? "a box" : "",
  ].filter((part) => part !== "");
  return (
    <div class="draft">
      <span class="grow">{parts.join(", ")}</span>
      <button class="button small" onClick={undo} title="Take the last click back (z)">
        <Icon name="undo" /> Undo
      </button>
      <button class="button small" onClick={discard}>
        Discard
      </button>
      <button class="button small primary" onClick={finish} title="The next click begins another object">
        Keep
      </button>
    </div>
  );
}
