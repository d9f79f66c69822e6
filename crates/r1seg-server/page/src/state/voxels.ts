// The voxels of the scan and of its masks. They are too large for the store, which only knows their state.

import { client } from "../api/client";
import { asProblem } from "../api/errors";
import { gunzip, readLabels } from "../lib/nifti";
import type { Volume } from "../types";
import { app } from "./app";
import { lost } from "./session";

export type Labels = Uint8Array | Uint16Array;

interface Shown {
  id: string;
  name: string;
  bytes: ArrayBuffer;
}

let shown: Shown | null = null;
let loading: AbortController | null = null;
const files = new Map<string, Promise<Labels>>();
const listeners = new Set<(volume: Shown | null) => void>();

/** Calls back with the scan's file whenever another one is to be shown. */
export function onVolume(listener: (volume: Shown | null) => void): () => void {
  listeners.add(listener);
  listener(shown);
  return () => listeners.delete(listener);
}

export async function showVolume(volume: Volume): Promise<void> {
  if (!app.get().webgl) return;
  loading?.abort();
  const controller = new AbortController();
  loading = controller;
  app.set({ voxels: "loading", received: { bytes: 0, total: null } });
  try {
    const zipped = await client.bytes(
      `v1/volumes/${volume.id}/volume.nii.gz`,
      (bytes, total) => app.set({ received: { bytes, total } }),
      controller.signal,
    );
    shown = { id: volume.id, name: volume.name, bytes: await gunzip(zipped) };
    for (const listener of listeners) listener(shown);
  } catch (error) {
    if (asProblem(error) === null) return;
    app.set({ voxels: "failed" });
    lost(error);
  }
}

export function forgetVoxels(): void {
  loading?.abort();
  shown = null;
  files.clear();
  for (const listener of listeners) listener(null);
}

/** The labels in a mask file, read once. */
export function labelsOf(result: string, file: string): Promise<Labels> {
  const path = `v1/results/${result}/files/${file}`;
  let labels = files.get(path);
  if (!labels) {
    labels = read(path);
    files.set(path, labels);
    labels.catch(() => files.delete(path));
  }
  return labels;
}

/** Lets go of the masks of a result that another one has replaced. */
export function forgetResult(result: string): void {
  for (const path of files.keys()) {
    if (path.startsWith(`v1/results/${result}/`)) files.delete(path);
  }
}

async function read(path: string): Promise<Labels> {
  const blob = await client.blob(path);
  return readLabels(await gunzip(await blob.arrayBuffer())).labels;
}
