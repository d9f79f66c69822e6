// A problem, and what helps.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Problem } from "../api/errors";
import { explain, type Tried } from "../lib/words";
import { Icon } from "./icon";

interface Props {
  problem: Problem;
  onRetry?: (() => void) | undefined;
  tried?: Tried;
  /** Nothing is wrong: something is to be chosen. */
  choice?: boolean;
  children?: ComponentChildren;
}

export function ProblemBlock({ problem, onRetry, tried, choice = false, children }: Props): JSX.Element {
  const { title, text, fix } = explain(problem, tried);
  const wait = useCountdown(problem.retryAfterS);
  return (
    <div class={choice ? "problem choice-block" : "problem"} role="alert">
      <Icon name={choice ? "info" : "alert"} />
      <div>
        <strong>{title}</strong>
        <p>{text}</p>
        {fix && <p class="muted">{fix}</p>}
        {children}
        {onRetry && (
          <button class="button" onClick={onRetry} disabled={wait > 0}>
            <Icon name="retry" /> {wait > 0 ? `Try again in ${wait} s` : "Try again"}
          </button>
        )}
        {problem.code && (
          <p class="code">
            {problem.code}
            {problem.requestId && ` · request ${problem.requestId}`}
          </p>
        )}
      </div>
    </div>
  );
}

/** Seconds left until a server that was busy may be asked again. */
function useCountdown(seconds: number | null): number {
  const [left, setLeft] = useState(seconds ?? 0);
  useEffect(() => {
    setLeft(seconds ?? 0);
    if (!seconds) return;
    const timer = setInterval(() => setLeft((n) => Math.max(0, n - 1)), 1000);
    return () => clearInterval(timer);
  }, [seconds]);
  return left;
}
