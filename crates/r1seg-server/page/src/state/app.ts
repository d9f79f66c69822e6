// Everything that the page knows, in one place.

import type { Problem } from "../api/errors";
import type { UploadChoices, UploadFile } from "../api/upload";
import type { Rgb } from "../lib/colors";
import type { Plane } from "../lib/orientation";
import { PRESETS, type Window } from "../lib/windows";
import type { MaskInfo, ModelInfo, PromptPoint, Result, ServerInfo, Stage, Volume, Voxel } from "../types";
import { Store } from "./store";

export type Connection = "connecting" | "open" | "gone" | "key";

export interface Upload {
  name: string;
  files: UploadFile[];
  choices: UploadChoices;
  sent: number;
  total: number;
}

/** One question, or one object that is drawn with points and a box. */
export interface Turn {
  id: number;
  text: string;
  model: string;
  kind: "question" | "object";
  status: "waiting" | "running" | "done" | "failed" | "canceled";
  position: number | null;
  stage: Stage | null;
  window: [number, number] | null;
  streamed: string;
  result: Result | null;
  problem: Problem | null;
}

/** A mask as the page shows it. */
export interface MaskView {
  id: string;
  turn: number;
  result: string;
  info: MaskInfo;
  /** The server's, unless another mask has it or the user chose one. */
  color: Rgb;
  visible: boolean;
}

export type Tool = "look" | "positive" | "negative" | "box" | "measure";

export interface Draft {
  points: PromptPoint[];
  box: [Voxel, Voxel] | null;
  turn: number | null;
  history: { points: PromptPoint[]; box: [Voxel, Voxel] | null }[];
}

export const NO_DRAFT: Draft = { points: [], box: null, turn: null, history: [] };

export interface Cursor {
  voxel: Voxel;
  ras: Voxel;
  value: number;
}

export interface Dialog {
  kind: "help" | "forget" | "open";
}

export interface AppState {
  connection: Connection;
  problem: Problem | null;
  keyRefused: boolean;
  info: ServerInfo | null;
  models: ModelInfo[];
  model: string | null;
  mode: string | null;
  refineWith: string | null;

  upload: Upload | null;
  uploadProblem: Problem | null;
  lastUpload: Pick<Upload, "files" | "choices"> | null;
  volume: Volume | null;
  voxels: "none" | "loading" | "shown" | "failed";
  received: { bytes: number; total: number | null };

  turns: Turn[];
  masks: MaskView[];
  selected: string | null;

  webgl: boolean;
  window: Window;
  radiological: boolean;
  main: Plane;
  only: Plane | "volume" | null;
  fill: number;
  outline: boolean;
  showMasks: boolean;
  tool: Tool;
  draft: Draft;
  cursor: Cursor | null;

  dialog: Dialog | null;
  dragging: boolean;
  announcement: string;
  theme: "dark" | "light";
}

export const app = new Store<AppState>({
  connection: "connecting",
  problem: null,
  keyRefused: false,
  info: null,
  models: [],
  model: null,
  mode: null,
  refineWith: null,
  upload: null,
  uploadProblem: null,
  lastUpload: null,
  volume: null,
  voxels: "none",
  received: { bytes: 0, total: null },
  turns: [],
  masks: [],
  selected: null,
  webgl: true,
  window: PRESETS[0] as Window,
  radiological: true,
  main: "axial",
  only: null,
  fill: 0.25,
  outline: true,
  showMasks: true,
  tool: "look",
  draft: NO_DRAFT,
  cursor: null,
  dialog: null,
  dragging: false,
  announcement: "",
  theme: "dark",
});

export function currentModel(state: AppState): ModelInfo | null {
  return state.models.find((model) => model.id === state.model) ?? null;
}

/** Says something to a screen reader. */
export function announce(text: string): void {
  app.set({ announcement: text });
}
