// What happened and what helps, in the page's words. The server's own words stay where ours add nothing.

import type { Problem } from "../api/errors";
import type { Answer, Notice, Volume } from "../types";
import { bytes } from "./format";

export interface Explained {
  title: string;
  text: string;
  fix: string | null;
}

/** What was tried: to open a scan, or to answer a question. */
export type Tried = "scan" | "question";

export function explain(problem: Problem, tried: Tried = "question"): Explained {
  switch (problem.kind) {
    case "gone":
      return { title: "The server does not answer", text: "Your questions and masks are still on this page.", fix: "See that r1seg serve still runs, then try again." };
    case "key":
      return { title: "The server refused the key", text: "The key is wrong, or it has changed.", fix: "Enter the key again." };
    case "busy":
      return { title: "The queue is full", text: "Other questions are being answered on this server.", fix: "Try again in a moment." };
    case "expired":
      return { title: "The server no longer has this scan", text: "Its time was up, or the server started anew.", fix: "Open the scan again." };
    case "too_large":
      return tooLarge(problem);
    case "choice":
      return { title: "These files hold several series", text: "Choose the one to open.", fix: null };
    case "failed":
      return { title: "The server could not finish this", text: sentence(problem.message), fix: problem.fix };
    case "refused":
      return { title: refusal(problem, tried), text: sentence(problem.message), fix: remedy(problem.fix) };
  }
}

function refusal(problem: Problem, tried: Tried): string {
  if (tried === "question") return "This could not be answered";
  const choice = remedyOf(problem);
  if (choice === "frame") return "This file holds several frames";
  if (choice === "spacing") return "This file does not say how large its voxels are";
  return "This scan cannot be opened";
}

function tooLarge(problem: Problem): Explained {
  const [size, limit] = problem.message.split("|").map(Number);
  const numbers = size && limit ? `It has ${bytes(size)}; this server takes up to ${bytes(limit)}.` : sentence(problem.message);
  return { title: "This scan is too large", text: numbers, fix: "Choose one series only, or start the server with a higher limit." };
}

/** What a warning or an error offers to do here and now. */
export type Remedy = "spacing" | "series" | "frame" | "no-spacing" | "no-frame";

/** Found in the server's remedy, which names the field of a request that helps. */
export function remedyOf({ fix }: Pick<Notice, "fix">): Remedy | null {
  const [, no, field] = /(no )?field `(spacing|frame|series)`/.exec(fix ?? "") ?? [];
  if (!field) return null;
  if (no) return field === "spacing" ? "no-spacing" : field === "frame" ? "no-frame" : null;
  return field as Remedy;
}

/** The last frame that may be chosen, where the remedy says it. */
export function framesIn(fix: string | null): number | null {
  const last = /0 to (\d+)/.exec(fix ?? "")?.[1];
  return last === undefined ? null : Number(last);
}

/** A remedy for somebody who looks at a page; `null` where it speaks of requests and their fields. */
export function remedy(fix: string | null): string | null {
  if (!fix) return null;
  if (fix.includes("/v1/models")) return "Choose another model.";
  return fix.includes("`") ? null : sentence(fix);
}

export function sentence(text: string): string {
  const trimmed = text.trim();
  if (!trimmed) return "";
  const first = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(first) ? first : `${first}.`;
}

/** Why an answer has no mask. */
export function whyNoMask(answer: Answer): string {
  if (answer.status === "empty_mask") return "The model drew a mask, but no voxel of this scan is in it.";
  if (!answer.text) return "The model found nothing that fits.";
  return "The model answered in words only. It draws a mask when the question asks for one.";
}

const VERDICTS: Record<string, string> = {
  hu: "HU",
  unit: "not HU: intensities",
  unknown: "unknown unit: intensities",
};

export function verdict(volume: Volume): string {
  return volume.is_hu ? "HU" : (VERDICTS[volume.intensity_verdict ?? ""] ?? "not HU");
}
