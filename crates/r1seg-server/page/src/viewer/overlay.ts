// What lies over the slices: outlines, fills, points, the box and measured lines.

import { color } from "../lib/format";
import { AXES, type Grid, type Plane } from "../lib/orientation";
import type { AppState } from "../state/app";
import type { PromptPoint, Voxel } from "../types";
import type { LoadedMask, Outlines } from "./masks";

/** Takes RAS voxels of a plane to canvas pixels: `x = x0 + across * dx`, `y = y0 + up * dy`. */
export interface Tile {
  plane: Plane;
  slice: number;
  clip: [number, number, number, number];
  x0: number;
  dx: number;
  y0: number;
  dy: number;
  /** Millimeters per voxel upwards; `null` where the file does not say. */
  mmUp: number | null;
}

export interface Measure {
  plane: Plane;
  slice: number;
  from: [number, number];
  to: [number, number];
  mm: number | null;
}

export interface Scene {
  state: AppState;
  grid: Grid;
  masks: readonly LoadedMask[];
  outlines: Outlines;
  measures: readonly Measure[];
  /** Where the crosshair stands, in RAS voxels. */
  at: Voxel;
  /** The box while it is being drawn, in RAS voxels. */
  rubber: [Voxel, Voxel] | null;
}

const POSITIVE = "#2fbf71";
const NEGATIVE = "#ff5d5d";
const CROSSHAIR = "rgb(122 184 255 / 0.6)";
const SCALE = "rgb(195 203 210 / 0.8)";
const BOX = "#ffd166";

export function drawOverlay(context: CanvasRenderingContext2D, tiles: readonly Tile[], scene: Scene, dpr: number): void {
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  for (const tile of tiles) {
    context.save();
    context.beginPath();
    context.rect(...tile.clip);
    context.clip();
    if (scene.state.showMasks) drawMasks(context, tile, scene, dpr);
    drawCrosshair(context, tile, scene, dpr);
    if (tile.plane === scene.state.main || tile.plane === scene.state.only) drawScale(context, tile, dpr);
    drawBox(context, tile, scene, dpr);
    for (const point of scene.state.draft.points) drawPoint(context, tile, scene.grid, point, dpr);
    for (const measure of scene.measures) drawMeasure(context, tile, measure, dpr);
    context.restore();
  }
}

function drawMasks(context: CanvasRenderingContext2D, tile: Tile, { state, masks, outlines }: Scene, dpr: number): void {
  for (const mask of masks) {
    if (!mask.view.visible) continue;
    const path = outlines.path(mask, tile.plane, tile.slice);
    if (!path) continue;
    const placed = new Path2D();
    placed.addPath(path, new DOMMatrix([tile.dx, 0, 0, tile.dy, tile.x0, tile.y0]));
    const rgb = mask.view.color;
    context.fillStyle = color(rgb, state.fill);
    context.fill(placed, "evenodd");
    if (!state.outline) continue;
    const selected = state.selected === mask.view.id;
    context.lineJoin = "round";
    // A thin dark line below keeps pale colors apart from bright tissue.
    context.lineWidth = (selected ? 3.5 : 2.75) * dpr;
    context.strokeStyle = "rgb(0 0 0 / 0.35)";
    context.stroke(placed);
    context.lineWidth = (selected ? 2.25 : 1.5) * dpr;
    context.strokeStyle = color(rgb);
    context.stroke(placed);
  }
}

/** Two thin lines that leave the place itself free. */
function drawCrosshair(context: CanvasRenderingContext2D, tile: Tile, { at }: Scene, dpr: number): void {
  const [x, y] = place(tile, at).map((v) => Math.round(v) + 0.5) as [number, number];
  const [left, top, width, height] = tile.clip;
  const gap = 14 * dpr;
  context.beginPath();
  context.moveTo(left, y);
  context.lineTo(x - gap, y);
  context.moveTo(x + gap, y);
  context.lineTo(left + width, y);
  context.moveTo(x, top);
  context.lineTo(x, y - gap);
  context.moveTo(x, y + gap);
  context.lineTo(x, top + height);
  context.lineWidth = dpr;
  context.strokeStyle = CROSSHAIR;
  context.stroke();
}

/** Ten centimeters at the right edge, with a tick at each. */
function drawScale(context: CanvasRenderingContext2D, tile: Tile, dpr: number): void {
  if (tile.mmUp === null) return;
  const [left, top, width, height] = tile.clip;
  const centimeter = (10 / tile.mmUp) * Math.abs(tile.dy);
  const count = [10, 5, 2, 1].find((n) => n * centimeter < 0.42 * height);
  if (!count) return;
  const x = Math.round(left + width - 3 * dpr) - 0.5;
  const first = Math.round(top + height / 2 + 14 * dpr) + 0.5;
  const from = Math.min(first, top + height - count * centimeter - 4 * dpr);
  context.beginPath();
  context.moveTo(x, from);
  context.lineTo(x, from + count * centimeter);
  for (let n = 0; n <= count; n += 1) {
    const long = n === 0 || n === count || (count === 10 && n === 5);
    context.moveTo(x, from + n * centimeter);
    context.lineTo(x - (long ? 8 : 4) * dpr, from + n * centimeter);
  }
  context.lineWidth = dpr;
  context.strokeStyle = SCALE;
  context.stroke();
  context.font = `${11 * dpr}px system-ui, sans-serif`;
  context.textAlign = "right";
  context.fillStyle = SCALE;
  context.fillText(`${count} cm`, x - 2 * dpr, from + count * centimeter - 4 * dpr);
  context.textAlign = "left";
}

function place(tile: Tile, ras: readonly number[]): [number, number] {
  const { across, up } = AXES[tile.plane];
  return [tile.x0 + (ras[across] as number) * tile.dx, tile.y0 + (ras[up] as number) * tile.dy];
}

function drawPoint(context: CanvasRenderingContext2D, tile: Tile, grid: Grid, { voxel, positive }: PromptPoint, dpr: number): void {
  const ras = grid.toRas(voxel);
  const away = Math.abs(ras[AXES[tile.plane].through] - tile.slice);
  if (away > 3) return;
  const [x, y] = place(tile, ras);
  const radius = 6 * dpr;
  context.globalAlpha = away === 0 ? 1 : 0.35;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = positive ? POSITIVE : NEGATIVE;
  context.fill();
  context.lineWidth = 1.5 * dpr;
  context.strokeStyle = "#000";
  context.stroke();
  context.beginPath();
  context.moveTo(x - 3 * dpr, y);
  context.lineTo(x + 3 * dpr, y);
  if (positive) {
    context.moveTo(x, y - 3 * dpr);
    context.lineTo(x, y + 3 * dpr);
  }
  context.stroke();
  context.globalAlpha = 1;
}

function drawBox(context: CanvasRenderingContext2D, tile: Tile, { state, grid, rubber }: Scene, dpr: number): void {
  const corners = rubber ?? (state.draft.box ? [grid.toRas(state.draft.box[0]), grid.toRas(state.draft.box[1])] : null);
  if (!corners) return;
  const { across, up, through } = AXES[tile.plane];
  const low = [0, 1, 2].map((axis) => Math.min(corners[0]?.[axis] ?? 0, corners[1]?.[axis] ?? 0));
  const high = [0, 1, 2].map((axis) => Math.max(corners[0]?.[axis] ?? 0, corners[1]?.[axis] ?? 0));
  const within = tile.slice >= (low[through] as number) && tile.slice <= (high[through] as number);
  const x0 = tile.x0 + ((low[across] as number) - 0.5) * tile.dx;
  const x1 = tile.x0 + ((high[across] as number) + 0.5) * tile.dx;
  const y0 = tile.y0 + ((low[up] as number) - 0.5) * tile.dy;
  const y1 = tile.y0 + ((high[up] as number) + 0.5) * tile.dy;
  context.lineWidth = 1.5 * dpr;
  context.strokeStyle = BOX;
  context.globalAlpha = within ? 1 : 0.4;
  context.setLineDash(within ? [] : [4 * dpr, 4 * dpr]);
  context.strokeRect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
  context.setLineDash([]);
  context.globalAlpha = 1;
}

function drawMeasure(context: CanvasRenderingContext2D, tile: Tile, measure: Measure, dpr: number): void {
  if (measure.plane !== tile.plane || measure.slice !== tile.slice) return;
  const [fx, fy] = [tile.x0 + measure.from[0] * tile.dx, tile.y0 + measure.from[1] * tile.dy];
  const [tx, ty] = [tile.x0 + measure.to[0] * tile.dx, tile.y0 + measure.to[1] * tile.dy];
  for (const [width, style] of [
    [3.5, "rgb(0 0 0 / 0.6)"],
    [1.5, "#ffffff"],
  ] as const) {
    context.lineWidth = width * dpr;
    context.strokeStyle = style;
    context.beginPath();
    context.moveTo(fx, fy);
    context.lineTo(tx, ty);
    context.stroke();
  }
  const text = measure.mm === null ? "length unknown" : `${measure.mm.toFixed(1)} mm`;
  context.font = `600 ${12 * dpr}px system-ui, sans-serif`;
  const width = context.measureText(text).width + 10 * dpr;
  const [x, y] = [tx + 8 * dpr, ty - 9 * dpr];
  context.fillStyle = "rgb(0 0 0 / 0.75)";
  context.fillRect(x, y, width, 18 * dpr);
  context.fillStyle = "#ffffff";
  context.fillText(text, x + 5 * dpr, y + 13 * dpr);
}
