// From files to a scan on screen.

import { client } from "../api/client";
import { asProblem } from "../api/errors";
import { upload, type UploadChoices, type UploadFile } from "../api/upload";
import { nameOf } from "../lib/drop";
import { firstWindow } from "../lib/windows";
import type { Volume } from "../types";
import { announce, app, NO_DRAFT } from "./app";
import { cancelAll } from "./asking";
import { lost } from "./session";
import { forgetVoxels, showVolume } from "./voxels";

let running: AbortController | null = null;

export async function open(files: UploadFile[], choices: UploadChoices = {}): Promise<void> {
  if (files.length === 0) return;
  app.set({ dialog: null });
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  const limit = app.get().info?.limits.max_body_bytes ?? Infinity;
  running?.abort();
  if (total > limit) {
    app.set({ upload: null, uploadProblem: tooLarge(total, limit) });
    return;
  }
  const controller = new AbortController();
  running = controller;
  app.set({ upload: { name: nameOf(files), files, choices, sent: 0, total }, uploadProblem: null, lastUpload: { files, choices } });
  announce(`Uploading ${nameOf(files)}.`);
  try {
    const volume = await upload(files, choices, (sent, all) => progress(sent, all), controller.signal);
    await opened(volume);
  } catch (error) {
    failed(error);
  }
}

export async function openPhantom(): Promise<void> {
  app.set({ dialog: null, upload: { name: "demo phantom", files: [], choices: {}, sent: 0, total: 0 }, uploadProblem: null, lastUpload: null });
  try {
    await opened(await client.phantom(7));
    const demo = app.get().models.find((model) => model.is_demo);
    if (demo) app.set({ model: demo.id });
  } catch (error) {
    failed(error);
  }
}

/** Opens the same files again, with a choice that the server asked for. */
export function openAgain(choices: UploadChoices): void {
  const last = app.get().lastUpload;
  if (last) void open(last.files, { ...last.choices, ...choices });
}

/** Opens the same files again, without a choice that the server could not use. */
export function openWithout(field: keyof UploadChoices): void {
  const last = app.get().lastUpload;
  if (!last) return;
  const { [field]: _, ...choices } = last.choices;
  void open(last.files, choices);
}

export function cancelUpload(): void {
  running?.abort();
  app.set({ upload: null });
}

export async function forget(): Promise<void> {
  const { volume } = app.get();
  close();
  if (!volume) return;
  try {
    await client.forget(volume.id);
    announce("The server has forgotten the scan.");
  } catch (error) {
    lost(error);
  }
}

/** Empties the room. */
export function close(): void {
  cancelAll();
  forgetVoxels();
  app.set({
    volume: null,
    voxels: "none",
    turns: [],
    masks: [],
    selected: null,
    draft: NO_DRAFT,
    tool: "look",
    cursor: null,
    uploadProblem: null,
    dialog: null,
    only: null,
  });
}

async function opened(volume: Volume): Promise<void> {
  const { lastUpload } = app.get();
  close();
  app.set({ upload: null, lastUpload, volume, window: firstWindow(volume.is_hu, volume.intensity_range) });
  announce(`${volume.name} is open.`);
  await showVolume(volume);
}

function progress(sent: number, total: number): void {
  app.set(({ upload: now }) => (now ? { upload: { ...now, sent, total } } : {}));
}

function failed(error: unknown): void {
  const problem = asProblem(error);
  app.set({ upload: null });
  if (!problem) return;
  if (problem.kind === "key") {
    lost(error);
    return;
  }
  app.set({ uploadProblem: problem });
  announce(problem.message);
}

function tooLarge(total: number, limit: number): NonNullable<ReturnType<typeof asProblem>> {
  return { kind: "too_large", code: null, message: `${total}|${limit}`, fix: null, requestId: null, retryAfterS: null, series: [] };
}
