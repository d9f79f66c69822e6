// Files of a result, saved under the names that the command line writes.

import { client } from "../api/client";
import { lost } from "../state/session";
import type { Result } from "../types";

export interface Download {
  label: string;
  title: string;
  path: string;
  name: string;
}

export function downloadsOf(result: Result): Download[] {
  const file = (name: string): string => `v1/results/${result.id}/files/${name}`;
  const has = (name: string): boolean => result.files.includes(name);
  const masks = result.files.filter((name) => /^mask.*\.nii(\.gz)?$/.test(name));
  return [
    ...masks.map((name, index) => ({
      label: index === 0 ? "Mask" : `Mask ${index + 1}`,
      title: `${name}: the mask on the scan's grid`,
      path: file(name),
      name,
    })),
    ...(has("mask.seg.nrrd") ? [{ label: "3D Slicer", title: "mask.seg.nrrd: a segmentation for 3D Slicer", path: file("mask.seg.nrrd"), name: "mask.seg.nrrd" }] : []),
    ...(has("preview.png") ? [{ label: "Picture", title: "preview.png: three planes with the mask", path: file("preview.png"), name: "preview.png" }] : []),
    ...(has("report.json") ? [{ label: "Report", title: "report.json: answers, measurements and provenance", path: file("report.json"), name: "report.json" }] : []),
    { label: "Zip", title: "everything as one zip archive", path: `v1/results/${result.id}.zip`, name: `${result.id}.zip` },
  ];
}

/** Fetches and saves, for a link could not carry the key. */
export async function save({ path, name }: Download): Promise<void> {
  try {
    const url = URL.createObjectURL(await client.blob(path));
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (error) {
    lost(error);
  }
}
