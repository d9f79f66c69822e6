// A problem, and what helps.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Problem } from "../api/errors";
import { explain } from "../lib/words";
import { Icon } from "./icon";

interface Props {
  problem: Problem;
  onRetry?: (() => void) | undefined;
  retryLabel?: string;
  children?: ComponentChildren;
}

export function ProblemBlock({ problem, onRetry, retryLabel = "Try again", children }: Props): JSX.Element {
  const { title, text, fix } = explain(problem);
  const wait = useCountdown(problem.retryAfterS);
  return (
    <div class="problem" role="alert">
      <Icon name="alert" />
      <div>
        <strong>{title}</strong>
        <p>{text}</p>
        {fix && <p class="muted">{fix}</p>}
        {children}
        {onRetry && (
          <button class="button" onClick={onRetry} disabled={wait > 0}>
            <Icon name="retry" /> {wait > 0 ? `${retryLabel} in ${wait} s` : retryLabel}
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
