// One question and its answer.

import type { JSX } from "preact";
import { answerText, percent, seconds } from "../lib/format";
import { downloadsOf, save } from "../lib/downloads";
import { whyNoMask } from "../lib/words";
import { app, type Turn } from "../state/app";
import { ask, askAgain, cancel, remove, STAGES } from "../state/asking";
import { useStore } from "../state/store";
import { openAgain } from "../state/volumes";
import type { Answer, Result } from "../types";
import { Icon } from "./icon";
import { MaskRow } from "./mask-row";
import { ProblemBlock } from "./problem";
import { resultWarnings } from "./trouble";

export function TurnCard({ turn }: { turn: Turn }): JSX.Element {
  const several = useStore(app, (s) => s.models.length > 1);
  const drafting = useStore(app, (s) => s.draft.turn === turn.id);
  const again = useStore(app, (s) => s.lastUpload !== null);
  const busy = turn.status === "waiting" || turn.status === "running";
  return (
    <article class={`turn ${turn.status}${drafting ? " drafting" : ""}`}>
      <div class="turn-head">
        <h3>{turn.text}</h3>
        {busy ? (
          <button class="button small" onClick={() => cancel(turn.id)}>
            Cancel
          </button>
        ) : (
          <button class="icon-button" aria-label={`Remove: ${turn.text}`} onClick={() => remove(turn.id)}>
            <Icon name="close" />
          </button>
        )}
      </div>
      {several && <p class="turn-model">{turn.model}</p>}
      {busy && <Progress turn={turn} />}
      {turn.status === "canceled" && (
        <p class="muted turn-note">
          Canceled. {turn.kind === "question" && <AgainButton id={turn.id} />}
        </p>
      )}
      {turn.status === "failed" && turn.problem && (
        <ProblemBlock problem={turn.problem} onRetry={turn.kind === "question" && turn.problem.kind !== "expired" ? () => askAgain(turn.id) : undefined}>
          {turn.problem.kind === "expired" && again && (
            <button class="button" onClick={() => openAgain({})}>
              <Icon name="retry" /> Open the scan again
            </button>
          )}
        </ProblemBlock>
      )}
      {turn.result && turn.status !== "failed" && <Answered turn={turn} result={turn.result} stale={busy} />}
    </article>
  );
}

function AgainButton({ id }: { id: number }): JSX.Element {
  return (
    <button class="link" onClick={() => askAgain(id)}>
      Ask again
    </button>
  );
}

function Progress({ turn }: { turn: Turn }): JSX.Element {
  const { stage, window, position, streamed } = turn;
  const doing = stage ? STAGES[stage] : position ? `${position} before you in the queue` : "Waiting for the model";
  return (
    <div class="progress">
      {streamed && (
        <p class="answer streaming">
          {answerText(streamed)}
          <span class="caret" />
        </p>
      )}
      <p class="stage">
        <span class="spinner" />
        <span class="grow">{doing}</span>
        {window && (
          <span class="muted">
            part {window[0]} of {window[1]}
          </span>
        )}
      </p>
      {window && (
        <div class="bar" role="progressbar" aria-label={doing} aria-valuemin={0} aria-valuemax={window[1]} aria-valuenow={window[0]}>
          <span style={{ width: `${percent(window[0], window[1])}%` }} />
        </div>
      )}
    </div>
  );
}

function Answered({ turn, result, stale }: { turn: Turn; result: Result; stale: boolean }): JSX.Element {
  const masks = useStore(app, (s) => s.masks);
  const all = masks.map((mask, index) => ({ mask, number: index + 1 }));
  const mine = all.filter(({ mask }) => mask.turn === turn.id);
  const draws = useStore(app, (s) => s.models.find(({ id }) => id === turn.model)?.capabilities.outputs.includes("mask") ?? true);
  const total = Object.values(result.timings_ms).reduce((sum, ms) => sum + ms, 0);
  return (
    <div class={stale ? "answered stale" : "answered"}>
      {result.answers.map((answer, index) => (
        <AnswerText key={index} answer={answer} draws={draws} />
      ))}
      {mine.length > 0 && (
        <ul class="masks" aria-label="Masks">
          {mine.map(({ mask, number }) => (
            <MaskRow key={mask.id} mask={mask} number={number} />
          ))}
        </ul>
      )}
      {resultWarnings(result.warnings)}
      <div class="downloads">
        <Icon name="download" />
        {downloadsOf(result).map((download) => (
          <button key={download.path} class="link" title={download.title} onClick={() => void save(download)}>
            {download.label}
          </button>
        ))}
        <span class="grow" />
        {total > 0 && <span class="muted">{seconds(result.timings_ms["total"] ?? total)}</span>}
      </div>
    </div>
  );
}

function AnswerText({ answer, draws }: { answer: Answer; draws: boolean }): JSX.Element {
  const text = answerText(answer.text);
  return (
    <>
      {text && <p class="answer">{text}</p>}
      {answer.finish_reason === "length" && <p class="muted turn-note">The answer was cut off at its longest.</p>}
      {answer.status !== "found" && draws && (
        <div class="no-mask">
          <p>
            <strong>No mask.</strong> {whyNoMask(answer)}
          </p>
          {answer.suggestions.length > 0 && (
            <>
              <p class="muted">A phrasing that works:</p>
              <div class="chips">
                {answer.suggestions.map((suggestion) => (
                  <button key={suggestion} class="chip" onClick={() => ask(suggestion)}>
                    {suggestion}
                  </button>
                ))}
              </div>
            </>
          )}
        </div>
      )}
    </>
  );
}
