// Where each pane lies, in fractions of the viewer.

import type { Plane } from "../lib/orientation";

export type PaneId = Plane | "volume";

export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

export type Layout = Partial<Record<PaneId, Rect>>;

const ALL: readonly PaneId[] = ["axial", "coronal", "sagittal", "volume"];

/** The plane that is being read is large; the others stand beside it, or below it on a tall screen. */
export function layoutOf(main: Plane, only: PaneId | null, aspect: number): Layout {
  if (only) return { [only]: { x: 0, y: 0, width: 1, height: 1 } };
  const others = ALL.filter((pane) => pane !== main);
  const layout: Layout = {};
  const large = aspect > 1 ? 0.66 : 0.62;
  layout[main] = aspect > 1 ? { x: 0, y: 0, width: large, height: 1 } : { x: 0, y: 0, width: 1, height: large };
  others.forEach((pane, index) => {
    const along = index / others.length;
    const share = 1 / others.length;
    layout[pane] =
      aspect > 1
        ? { x: large, y: along, width: 1 - large, height: share }
        : { x: along, y: large, width: share, height: 1 - large };
  });
  return layout;
}
