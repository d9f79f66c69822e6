// What can go wrong between page and server, in a form that the page can show.

import type { ErrorBody, SeriesChoice } from "../types";

export type ProblemKind = "gone" | "key" | "busy" | "expired" | "too_large" | "choice" | "refused" | "failed";

export interface Problem {
  kind: ProblemKind;
  code: string | null;
  message: string;
  fix: string | null;
  requestId: string | null;
  retryAfterS: number | null;
  series: SeriesChoice[];
}

export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

const KINDS: Record<number, ProblemKind> = {
  401: "key",
  404: "expired",
  413: "too_large",
  429: "busy",
};

/** The problem that a response with an error status describes. */
export function problemOf(status: number, body: string, retryAfter: string | null): Problem {
  const error = parse(body);
  const series = error?.series ?? [];
  const seconds = Number.parseInt(retryAfter ?? "", 10);
  return {
    kind: series.length > 0 ? "choice" : (KINDS[status] ?? (status >= 500 ? "failed" : "refused")),
    code: error?.code ?? null,
    message: error?.message ?? `the server answered with status ${status}`,
    fix: error?.fix ?? null,
    requestId: error?.request_id ?? null,
    retryAfterS: Number.isFinite(seconds) ? seconds : null,
    series,
  };
}

/** The problem of a server that cannot be reached. */
export function gone(): Problem {
  return {
    kind: "gone",
    code: null,
    message: "The server does not answer.",
    fix: "See that r1seg serve still runs, then try again.",
    requestId: null,
    retryAfterS: null,
    series: [],
  };
}

/** Whatever was thrown, as a problem; `null` where it was the user who canceled. */
export function asProblem(error: unknown): Problem | null {
  if (error instanceof ApiError) return error.problem;
  if (error instanceof DOMException && error.name === "AbortError") return null;
  if (error instanceof TypeError) return gone();
  const message = error instanceof Error ? error.message : String(error);
  return { ...gone(), kind: "failed", message, fix: null };
}

function parse(body: string): ErrorBody | null {
  try {
    const value = JSON.parse(body) as { error?: ErrorBody };
    return value.error ?? null;
  } catch {
    return null;
  }
}
