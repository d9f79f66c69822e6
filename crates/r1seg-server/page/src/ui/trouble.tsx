// A scan that did not open, or opened with doubts: what it is, and the choice that mends it.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Problem } from "../api/errors";
import type { UploadChoices } from "../api/upload";
import { count, shape, spacing } from "../lib/format";
import { framesIn, remedy, remedyOf, sentence } from "../lib/words";
import { app } from "../state/app";
import { useStore } from "../state/store";
import { openAgain, openWithout } from "../state/volumes";
import type { Notice, SeriesChoice } from "../types";
import { Icon } from "./icon";
import { ProblemBlock } from "./problem";

type Choose = (choices: UploadChoices) => void;

export function UploadTrouble({ problem, onChoose }: { problem: Problem; onChoose: Choose }): JSX.Element {
  const kind = remedyOf(problem);
  const retry = problem.kind === "gone" || problem.kind === "busy" || problem.kind === "failed";
  return (
    <ProblemBlock problem={problem} tried="scan" choice={problem.kind === "choice" || kind !== null} onRetry={retry ? () => onChoose({}) : undefined}>
      {problem.series.length > 0 ? (
        <SeriesList series={problem.series} onChoose={onChoose} />
      ) : kind === "spacing" ? (
        <SpacingForm onChoose={onChoose} />
      ) : kind === "frame" ? (
        <FrameForm fix={problem.fix} onChoose={onChoose} />
      ) : kind === "no-spacing" || kind === "no-frame" ? (
        <WithoutChoice kind={kind} />
      ) : null}
    </ProblemBlock>
  );
}

function SeriesList({ series, onChoose }: { series: SeriesChoice[]; onChoose: Choose }): JSX.Element {
  return (
    <ul class="choices">
      {series.map((one) => (
        <li key={one.id}>
          <button class="choice" disabled={one.problem !== null} title={one.id} onClick={() => onChoose({ series: String(one.number) })}>
            <span class="number">{one.number}</span>
            <span>{one.is_localizer ? `${one.modality}, localizer` : one.modality}</span>
            <span class="grow muted">{one.problem ?? [one.shape ? shape(one.shape) : "", one.spacing_mm ? spacing(one.spacing_mm) : ""].filter(Boolean).join(" · ")}</span>
            <span class="muted">{one.slices === 1 ? "1 slice" : `${count(one.slices)} slices`}</span>
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

function FrameForm({ fix, onChoose }: { fix: string | null; onChoose: Choose }): JSX.Element {
  const [frame, setFrame] = useState("0");
  const last = framesIn(fix);
  const valid = /^\d+$/.test(frame) && (last === null || Number(frame) <= last);
  return (
    <form
      class="inline-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (valid) onChoose({ frame });
      }}
    >
      <label>
        <span class="muted">frame</span>
        <input inputMode="numeric" aria-label="Frame, counted from 0" value={frame} onInput={(event) => setFrame(event.currentTarget.value)} />
      </label>
      {last !== null && <span class="muted">of 0 to {last}</span>}
      <button class="button" type="submit" disabled={!valid}>
        Open this frame
      </button>
    </form>
  );
}

function WithoutChoice({ kind }: { kind: "no-spacing" | "no-frame" }): JSX.Element {
  const [field, words] = kind === "no-spacing" ? (["spacing", "Use the file's own spacing"] as const) : (["frame", "Open it as one volume"] as const);
  return (
    <button class="button" onClick={() => openWithout(field)}>
      {words}
    </button>
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
                {open === key && (kind === "spacing" ? <SpacingForm onChoose={openAgain} /> : <FrameForm fix={warning.fix} onChoose={openAgain} />)}
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
