// The outline of a mask in one slice, as closed lines through the middles of voxel edges.

export interface Slice {
  width: number;
  height: number;
  /** Whether the voxel at (x, y) belongs to the mask; only asked inside the slice. */
  inside: (x: number, y: number) => boolean;
  /** Where to look: first and last voxel of each direction. */
  bounds: { x: readonly [number, number]; y: readonly [number, number] };
}

/** A closed line: x0, y0, x1, y1, ... in voxels, where (0, 0) is the middle of the first voxel. */
export type Loop = number[];

/**
 * Marching squares at one half. The mask lies on the left of each line, so that holes run the other
 * way and both fill rules agree. Masks that touch at a corner stay apart.
 */
export function contours({ width, height, inside, bounds }: Slice): Loop[] {
  const [x0, x1] = bounds.x;
  const [y0, y1] = bounds.y;
  const at = (x: number, y: number): boolean => x >= 0 && y >= 0 && x < width && y < height && inside(x, y);
  const row = 2 * (width + 3);
  const key = (doubleX: number, doubleY: number): number => (doubleY + 2) * row + doubleX + 2;
  const next = new Map<number, number>();
  for (let y = y0 - 1; y <= y1; y += 1) {
    let cell = (at(x0 - 1, y) ? 1 : 0) | (at(x0 - 1, y + 1) ? 8 : 0);
    for (let x = x0 - 1; x <= x1; x += 1) {
      const right = at(x + 1, y);
      const rightBelow = at(x + 1, y + 1);
      cell |= (right ? 2 : 0) | (rightBelow ? 4 : 0);
      if (cell !== 0 && cell !== 15) {
        for (const [from, to] of SEGMENTS[cell] as readonly Segment[]) {
          next.set(key(2 * x + MIDDLES[from][0], 2 * y + MIDDLES[from][1]), key(2 * x + MIDDLES[to][0], 2 * y + MIDDLES[to][1]));
        }
      }
      cell = (right ? 1 : 0) | (rightBelow ? 8 : 0);
    }
  }
  return linked(next, row);
}

type Edge = "top" | "right" | "bottom" | "left";
type Segment = readonly [Edge, Edge];

/** The middles of a cell's edges, in half voxels from its first corner. */
const MIDDLES: Record<Edge, readonly [number, number]> = { top: [1, 0], right: [2, 1], bottom: [1, 2], left: [0, 1] };

/** By corners inside: 1 first, 2 right of it, 4 right below, 8 below. */
const SEGMENTS: readonly (readonly Segment[])[] = [
  [],
  [["top", "left"]],
  [["right", "top"]],
  [["right", "left"]],
  [["bottom", "right"]],
  [["top", "left"], ["bottom", "right"]],
  [["bottom", "top"]],
  [["bottom", "left"]],
  [["left", "bottom"]],
  [["top", "bottom"]],
  [["right", "top"], ["left", "bottom"]],
  [["right", "bottom"]],
  [["left", "right"]],
  [["top", "right"]],
  [["left", "top"]],
  [],
];

function linked(next: Map<number, number>, row: number): Loop[] {
  const loops: Loop[] = [];
  for (const first of next.keys()) {
    const loop: Loop = [];
    let at: number | undefined = first;
    while (at !== undefined && next.has(at)) {
      const to: number = next.get(at) as number;
      next.delete(at);
      loop.push(((at % row) - 2) / 2, (Math.floor(at / row) - 2) / 2);
      at = to;
    }
    if (loop.length > 0) loops.push(straightened(loop));
  }
  return loops;
}

/** Leaves out points in the middle of straight lines. */
function straightened(loop: Loop): Loop {
  const points = loop.length / 2;
  const kept: Loop = [];
  for (let i = 0; i < points; i += 1) {
    const [px, py] = point(loop, (i + points - 1) % points);
    const [x, y] = point(loop, i);
    const [nx, ny] = point(loop, (i + 1) % points);
    if ((x - px) * (ny - y) !== (y - py) * (nx - x)) kept.push(x, y);
  }
  return kept;
}

function point(loop: Loop, index: number): [number, number] {
  return [loop[2 * index] as number, loop[2 * index + 1] as number];
}
