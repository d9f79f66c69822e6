// The masks on the scan's grid: outlines of slices, and one label map of all of them for the 3D pane.

import { contours, type Loop } from "../lib/contours";
import { AXES, type Grid, type Plane } from "../lib/orientation";
import type { MaskView } from "../state/app";
import type { Labels } from "../state/voxels";

/** First and last voxel along each RAS axis. */
type Bounds = [[number, number], [number, number], [number, number]];

export interface LoadedMask {
  view: MaskView;
  labels: Labels;
  bounds: Bounds;
}

const CACHED_SLICES = 256;

export class Outlines {
  private readonly cache = new Map<string, Path2D>();

  constructor(private readonly grid: Grid) {}

  /** The outline of a mask in a slice, in RAS voxels across and up; `null` where it has none. */
  path(mask: LoadedMask, plane: Plane, slice: number): Path2D | null {
    const { across, up, through } = AXES[plane];
    const [first, last] = mask.bounds[through];
    if (slice < first || slice > last) return null;
    const key = `${mask.view.id}/${plane}/${slice}`;
    const known = this.cache.get(key);
    if (known) return known;
    const { start, step } = this.grid.strides();
    const base = start + slice * step[through];
    const { labels, view } = mask;
    const { label } = view.info;
    const path = pathOf(
      contours({
        width: this.grid.size(across),
        height: this.grid.size(up),
        inside: (x, y) => labels[base + x * step[across] + y * step[up]] === label,
        bounds: { x: mask.bounds[across], y: mask.bounds[up] },
      }),
    );
    if (this.cache.size >= CACHED_SLICES) this.cache.delete(this.cache.keys().next().value as string);
    this.cache.set(key, path);
    return path;
  }
}

function pathOf(loops: Loop[]): Path2D {
  const path = new Path2D();
  for (const loop of loops) {
    path.moveTo(loop[0] as number, loop[1] as number);
    for (let i = 2; i < loop.length; i += 2) path.lineTo(loop[i] as number, loop[i + 1] as number);
    path.closePath();
  }
  return path;
}

/** The bounds of every label in a file, found in one pass. */
export function boundsOf(grid: Grid, labels: Labels): Map<number, Bounds> {
  const [width, height, depth] = grid.shape;
  const found = new Map<number, Bounds>();
  let index = 0;
  for (let k = 0; k < depth; k += 1) {
    for (let j = 0; j < height; j += 1) {
      for (let i = 0; i < width; i += 1, index += 1) {
        const label = labels[index] as number;
        if (label === 0) continue;
        const bounds = found.get(label);
        if (bounds) widen(bounds, i, j, k);
        else found.set(label, [[i, i], [j, j], [k, k]]);
      }
    }
  }
  for (const [label, [i, j, k]] of found) {
    const a = grid.toRas([i[0], j[0], k[0]]);
    const b = grid.toRas([i[1], j[1], k[1]]);
    found.set(label, [0, 1, 2].map((axis) => [Math.min(a[axis] as number, b[axis] as number), Math.max(a[axis] as number, b[axis] as number)]) as Bounds);
  }
  return found;
}

function widen([i, j, k]: Bounds, x: number, y: number, z: number): void {
  if (x < i[0]) i[0] = x;
  else if (x > i[1]) i[1] = x;
  if (y < j[0]) j[0] = y;
  else if (y > j[1]) j[1] = y;
  if (z < k[0]) k[0] = z;
  else if (z > k[1]) k[1] = z;
}

/** One label map of all masks, numbered from 1 in their order; where they overlap, the later one is seen. */
export function composed(masks: readonly LoadedMask[], voxels: number, into: Uint8Array | null): Uint8Array {
  const all = into?.length === voxels ? into.fill(0) : new Uint8Array(voxels);
  masks.slice(0, 255).forEach(({ labels, view }, index) => {
    const { label } = view.info;
    for (let i = 0; i < voxels; i += 1) if (labels[i] === label) all[i] = index + 1;
  });
  return all;
}
