// Questions, and the answers as they come.

import { client } from "../api/client";
import { ApiError, asProblem, problemOf } from "../api/errors";
import type { ErrorBody, Prompt, Result, Stage } from "../types";
import { announce, app, currentModel, type MaskView, type Turn } from "./app";
import { promptOf } from "./capabilities";
import { lost } from "./session";
import { forgetResult } from "./voxels";
import { free } from "../lib/colors";
import { answerText, milliliters } from "../lib/format";

const controllers = new Map<number, AbortController>();
let lastId = 0;

export function ask(text: string): void {
  const state = app.get();
  const model = currentModel(state);
  if (!model || !state.volume || !text.trim()) return;
  const turn = newTurn("question", text.trim(), model.id);
  app.set({ turns: [...state.turns, turn] });
  void run(turn.id, promptOf(model, turn.text));
}

export function askAgain(id: number): void {
  const turn = app.get().turns.find((t) => t.id === id);
  const model = app.get().models.find((m) => m.id === turn?.model);
  if (turn && model && turn.kind === "question") void run(id, promptOf(model, turn.text));
}

export function newTurn(kind: Turn["kind"], text: string, model: string): Turn {
  lastId += 1;
  return {
    id: lastId,
    text,
    model,
    kind,
    status: "waiting",
    position: null,
    stage: null,
    window: null,
    streamed: "",
    result: null,
    problem: null,
  };
}

export function update(id: number, patch: Partial<Turn>): void {
  app.set(({ turns }) => ({ turns: turns.map((turn) => (turn.id === id ? { ...turn, ...patch } : turn)) }));
}

export function cancel(id: number): void {
  controllers.get(id)?.abort();
  update(id, { status: "canceled", stage: null });
  announce("Canceled.");
}

export function cancelAll(): void {
  for (const controller of controllers.values()) controller.abort();
  controllers.clear();
}

export function remove(id: number): void {
  controllers.get(id)?.abort();
  const gone = app.get().turns.find((turn) => turn.id === id)?.result;
  if (gone) forgetResult(gone.id);
  app.set(({ turns, masks }) => ({
    turns: turns.filter((turn) => turn.id !== id),
    masks: masks.filter((mask) => mask.turn !== id),
  }));
}

/** Sends a prompt and follows the answer; what ran before for the same turn is given up. */
export async function run(id: number, prompt: Prompt): Promise<void> {
  const { volume, mode, refineWith, turns } = app.get();
  const turn = turns.find((t) => t.id === id);
  if (!volume || !turn) return;
  controllers.get(id)?.abort();
  const controller = new AbortController();
  controllers.set(id, controller);
  update(id, { status: "waiting", position: null, stage: null, window: null, streamed: "", problem: null });
  const request = {
    model: turn.model,
    volume: volume.id,
    prompts: [prompt],
    stream: true,
    ...(mode && turn.kind === "question" ? { mode } : {}),
    ...(refineWith && turn.kind === "question" ? { refine_with: refineWith } : {}),
  };
  try {
    for await (const { event, data } of client.segment(request, controller.signal)) {
      if (controller.signal.aborted) return;
      follow(id, event, data);
    }
    if (app.get().turns.find((t) => t.id === id)?.status !== "done" && !controller.signal.aborted) {
      throw new TypeError("the stream ended early");
    }
  } catch (error) {
    if (!controller.signal.aborted) failed(id, error);
  } finally {
    if (controllers.get(id) === controller) controllers.delete(id);
  }
}

function follow(id: number, event: string, data: string): void {
  const value: unknown = JSON.parse(data);
  if (event === "queued") {
    update(id, { status: "waiting", position: (value as { position: number }).position });
  } else if (event === "stage") {
    const { stage, window } = value as { stage: Stage; window?: [number, number] | null };
    const before = app.get().turns.find((turn) => turn.id === id)?.stage;
    update(id, { status: "running", position: null, stage, window: window ?? null });
    if (before !== stage) announce(STAGES[stage]);
  } else if (event === "text") {
    const { text } = value as { text: string };
    app.set(({ turns }) => ({ turns: turns.map((t) => (t.id === id ? { ...t, status: "running", streamed: t.streamed + text } : t)) }));
  } else if (event === "result") {
    finished(id, value as Result);
  } else if (event === "error") {
    const error = value as { error?: ErrorBody } & ErrorBody;
    const body = error.error ?? error;
    // Inside a stream there is no status; the queue was not full, or it would not have begun.
    throw new ApiError(problemOf(422, JSON.stringify({ error: body }), null));
  }
}

export const STAGES: Record<Stage, string> = {
  encoding: "Encoding the scan",
  reading: "Reading the question",
  answering: "Answering",
  drawing: "Drawing the mask",
  saving: "Saving the result",
};

function finished(id: number, result: Result): void {
  const before = app.get().turns.find((turn) => turn.id === id)?.result;
  if (before && before.id !== result.id) forgetResult(before.id);
  update(id, { status: "done", stage: null, window: null, result, problem: null });
  const masks = views(id, result);
  app.set((state) => ({
    masks: [...state.masks.filter((mask) => mask.turn !== id), ...masks],
    selected: masks[0]?.id ?? state.selected,
    showMasks: true,
    // The server keeps a scan for longer each time it is used.
    volume: state.volume && { ...state.volume, expires: Math.max(state.volume.expires, result.expires) },
  }));
  announce(spoken(result));
}

/** The masks of a result; where it replaces another of the same turn, they keep their colors. */
function views(id: number, result: Result): MaskView[] {
  const { masks } = app.get();
  const before = masks.filter((mask) => mask.turn === id);
  const taken = masks.filter((mask) => mask.turn !== id).map((mask) => mask.color);
  return result.masks.map((info, index) => {
    const color = before[index]?.color ?? free(info.color, taken);
    taken.push(color);
    return { id: `${result.id}:${info.label}`, turn: id, result: result.id, info, color, visible: info.voxels > 0 };
  });
}

function spoken(result: Result): string {
  const texts = result.answers.map((answer) => answerText(answer.text)).filter((text) => text !== "");
  const masks = result.masks.map(({ name, volume_ml }) => `${name}, ${volume_ml === null ? "volume unknown" : milliliters(volume_ml)}`);
  return [...texts, masks.length > 0 ? `Masks: ${masks.join("; ")}.` : "No mask."].join(" ");
}

function failed(id: number, error: unknown): void {
  const problem = asProblem(error);
  if (!problem) return;
  update(id, { status: "failed", stage: null, problem });
  announce(problem.message);
  if (problem.kind === "key") lost(error);
}
