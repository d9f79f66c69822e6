// A scan that did not open, or opened with doubts: what it is, and the choice that mends it.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Problem } from "../api/errors";
import type { UploadChoices } from "../api/upload";
import { count } from "../lib/format";
import { remedy, remedyOf, sentence } from "../lib/words";
import { app } from "../state/app";
import { useStore } from "../state/store";
import { openAgain } from "../state/volumes";
import type { Notice, SeriesChoice } from "../types";
import { Icon } from "./icon";
import { ProblemBlock } from "./problem";

type Choose = (choices: UploadChoices) => void;

export function UploadTrouble({ problem, onChoose }: { problem: Problem; onChoose: Choose }): JSX.Element {
  const kind = remedyOf({ code: problem.code ?? "", fix: problem.fix });
  const retry = problem.kind === "gone" || problem.kind === "busy" || problem.kind === "failed";
  return (
    <ProblemBlock problem={problem} onRetry={retry ? () => onChoose({}) : undefined}>
      {problem.series.length > 0 ? (
        <SeriesList series={problem.series} onChoose={onChoose} />
      ) : kind === "spacing" ? (
        <SpacingForm onChoose={onChoose} />
      ) : kind === "frame" ? (
        <FrameForm onChoose={onChoose} />
      ) : null}
    </ProblemBlock>
  );
}

function SeriesList({ series, onChoose }: { series: SeriesChoice[]; onChoose: Choose }): JSX.Element {
  return (
    <ul class="choices">
      {series.map((one) => (
        <li key={one.id}>
          <button class="choice" onClick={() => onChoose({ series: String(one.number) })}>
            <span class="number">{one.number}</span>
            <span class="grow">{one.description || `…${one.id.slice(-12)}`}</span>
            {one.slices != null && <span class="muted">{count(one.slices)} slices</span>}
          </button>
        </li>
      ))}
    </ul>
  );
}

function SpacingForm({ onChoose }: { onChoose: Choose }): JSX.Element {
  const [values, setValues] = useState(["", "", ""]);
  const valid = values.every((value) => Number(value) > 0);
  return (
    <form
      class="inline-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (valid) onChoose({ spacing: values.join(",") });
      }}
    >
      {["i", "j", "k"].map((axis, index) => (
        <label key={axis}>
          <span class="muted">{axis}</span>
          <input
            inputMode="decimal"
            aria-label={`Spacing along ${axis} in mm`}
            value={values[index]}
            onInput={(event) => {
              const { value } = event.currentTarget;
              setValues((old) => old.map((x, i) => (i === index ? value.replace(",", ".") : x)));
            }}
          />
        </label>
      ))}
      <span class="muted">mm</span>
      <button class="button" type="submit" disabled={!valid}>
        Use this spacing
      </button>
    </form>
  );
}

function FrameForm({ onChoose }: { onChoose: Choose }): JSX.Element {
  const [frame, setFrame] = useState("0");
  return (
    <form
      class="inline-form"
      onSubmit={(event) => {
        event.preventDefault();
        onChoose({ frame });
      }}
    >
      <label>
        <span class="muted">frame</span>
        <input inputMode="numeric" aria-label="Frame, counted from 0" value={frame} onInput={(event) => setFrame(event.currentTarget.value)} />
      </label>
      <button class="button" type="submit" disabled={!/^\d+$/.test(frame)}>
        Open this frame
      </button>
    </form>
  );
}

/** What is unusual about the open scan. */
export function VolumeWarnings(): JSX.Element | null {
  const volume = useStore(app, (s) => s.volume);
  const again = useStore(app, (s) => s.lastUpload !== null);
  const [open, setOpen] = useState<string | null>(null);
  const [closed, setClosed] = useState<string | null>(null);
  if (!volume || volume.warnings.length === 0 || closed === volume.id) return null;
  return (
    <section class="warnings" aria-label="About this scan">
      <ul>
        {volume.warnings.map((warning, index) => {
          const kind = again ? remedyOf(warning) : null;
          const key = `${warning.code}${index}`;
          return (
            <li key={key}>
              <Icon name="alert" />
              <div>
                <p>{sentence(warning.text)}</p>
                {remedy(warning.fix) && <p class="muted">{remedy(warning.fix)}</p>}
                {kind === "spacing" && open !== key && (
                  <button class="button small" onClick={() => setOpen(key)}>
                    Give the spacing
                  </button>
                )}
                {kind === "frame" && open !== key && (
                  <button class="button small" onClick={() => setOpen(key)}>
                    Choose the frame
                  </button>
                )}
                {open === key && (kind === "spacing" ? <SpacingForm onChoose={openAgain} /> : <FrameForm onChoose={openAgain} />)}
              </div>
            </li>
          );
        })}
      </ul>
      <button class="icon-button" aria-label="Close the notes" onClick={() => setClosed(volume.id)}>
        <Icon name="close" />
      </button>
    </section>
  );
}

export function resultWarnings(warnings: Notice[]): JSX.Element | null {
  if (warnings.length === 0) return null;
  return (
    <ul class="result-warnings">
      {warnings.map((warning, index) => (
        <li key={index}>
          <Icon name="info" />
          <span>
            {sentence(warning.text)} {remedy(warning.fix)}
          </span>
        </li>
      ))}
    </ul>
  );
}
