// Points and a box: each click asks again with all of them.

import type { PromptPoint, Voxel } from "../types";
import { app, currentModel, NO_DRAFT, type Draft } from "./app";
import { cancel, newTurn, remove, run } from "./asking";

export function addPoint(voxel: Voxel, positive: boolean): void {
  const { draft } = app.get();
  change({ points: [...draft.points, { voxel, positive }], box: draft.box });
}

export function setBox(box: [Voxel, Voxel]): void {
  change({ points: app.get().draft.points, box });
}

/** Takes the last click back. */
export function undo(): void {
  const { draft } = app.get();
  const last = draft.history.at(-1);
  if (!last) return;
  const history = draft.history.slice(0, -1);
  if (last.points.length === 0 && !last.box) {
    if (draft.turn !== null) remove(draft.turn);
    app.set({ draft: NO_DRAFT });
    return;
  }
  app.set({ draft: { ...draft, ...last, history } });
  send();
}

/** Keeps the object as it is; the next click begins another. */
export function finish(): void {
  app.set({ draft: NO_DRAFT });
}

export function discard(): void {
  const { draft } = app.get();
  if (draft.turn !== null) {
    cancel(draft.turn);
    remove(draft.turn);
  }
  app.set({ draft: NO_DRAFT });
}

function change(next: { points: PromptPoint[]; box: Draft["box"] }): void {
  const { draft } = app.get();
  const history = [...draft.history, { points: draft.points, box: draft.box }];
  app.set({ draft: { ...draft, ...next, history } });
  send();
}

function send(): void {
  const { draft, turns } = app.get();
  const model = currentModel(app.get());
  if (!model) return;
  let id = draft.turn;
  if (id === null || !turns.some((turn) => turn.id === id)) {
    const number = turns.filter((turn) => turn.kind === "object").length + 1;
    const turn = newTurn("object", `Object ${number}`, model.id);
    id = turn.id;
    app.set({ turns: [...turns, turn], draft: { ...draft, turn: id } });
  }
  const name = app.get().turns.find((turn) => turn.id === id)?.text ?? "object";
  void run(id, {
    name: name.toLowerCase(),
    ...(draft.points.length > 0 ? { points: draft.points } : {}),
    ...(draft.box ? { box: draft.box } : {}),
  });
}
