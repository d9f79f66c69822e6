// What the pointer does while a tool is held: points, the box, measured lines.

import { AXES, type Plane } from "../lib/orientation";
import { app, type Tool } from "../state/app";
import { addPoint, setBox } from "../state/drafts";
import { setOnly } from "../state/view";
import type { Voxel } from "../types";
import type { Engine } from "./engine";

type Hit = NonNullable<ReturnType<Engine["hit"]>>;

/** Takes the pointer over from NiiVue where a tool wants it; gives back how to stop. */
export function listen(area: HTMLElement, engine: Engine): () => void {
  let drag: { tool: Tool; from: Hit } | null = null;

  const down = (event: PointerEvent): void => {
    const { tool } = app.get();
    if (tool === "look" || event.button !== 0) return;
    const hit = engine.hit(event.clientX, event.clientY);
    if (!hit) return;
    event.preventDefault();
    event.stopPropagation();
    if (tool === "positive" || tool === "negative") {
      engine.moveTo(hit.ras);
      addPoint(engine.toFile(hit.ras), (tool === "positive") !== event.altKey);
      return;
    }
    drag = { tool, from: hit };
    area.setPointerCapture(event.pointerId);
  };

  const move = (event: PointerEvent): void => {
    if (!drag) return;
    const hit = engine.hit(event.clientX, event.clientY);
    if (!hit || hit.plane !== drag.from.plane) return;
    if (drag.tool === "box") engine.rubber = boxOf(engine, drag.from, hit);
    else measure(engine, drag.from, hit);
    engine.redraw();
  };

  const up = (event: PointerEvent): void => {
    if (!drag) return;
    area.releasePointerCapture(event.pointerId);
    if (drag.tool === "box" && engine.rubber) {
      const [a, b] = engine.rubber.map((corner) => engine.toFile(corner)) as [Voxel, Voxel];
      setBox([a.map((x, i) => Math.min(x, b[i] as number)) as Voxel, a.map((x, i) => Math.max(x, b[i] as number)) as Voxel]);
    }
    engine.rubber = null;
    drag = null;
    engine.redraw();
  };

  // NiiVue listens to the mouse events that follow a pointer event.
  const swallow = (event: Event): void => {
    const { tool } = app.get();
    if (tool === "look") return;
    const { clientX, clientY } = event instanceof MouseEvent ? event : firstTouch(event as TouchEvent);
    if (engine.hit(clientX, clientY)) event.stopPropagation();
  };

  const twice = (event: MouseEvent): void => {
    if (app.get().tool !== "look") return;
    const hit = engine.hit(event.clientX, event.clientY);
    if (hit) setOnly(hit.plane);
  };

  area.addEventListener("pointerdown", down, true);
  area.addEventListener("pointermove", move);
  area.addEventListener("pointerup", up);
  area.addEventListener("mousedown", swallow, true);
  area.addEventListener("touchstart", swallow, true);
  area.addEventListener("dblclick", twice, true);
  return () => {
    area.removeEventListener("pointerdown", down, true);
    area.removeEventListener("pointermove", move);
    area.removeEventListener("pointerup", up);
    area.removeEventListener("mousedown", swallow, true);
    area.removeEventListener("touchstart", swallow, true);
    area.removeEventListener("dblclick", twice, true);
  };
}

function firstTouch(event: TouchEvent): { clientX: number; clientY: number } {
  return event.touches[0] ?? { clientX: -1, clientY: -1 };
}

/**
 * The box of a drag: what was dragged in the plane; through it, what an earlier box had, or else as
 * much as the drag is wide on average, around the slice.
 */
function boxOf(engine: Engine, from: Hit, to: Hit): [Voxel, Voxel] {
  const { across, up, through } = AXES[from.plane];
  const low: Voxel = [...from.ras];
  const high: Voxel = [...to.ras];
  const [first, last] = depth(engine, from.plane, from.ras, to.ras);
  for (const axis of [across, up]) {
    low[axis] = Math.min(from.ras[axis], to.ras[axis]);
    high[axis] = Math.max(from.ras[axis], to.ras[axis]);
  }
  low[through] = first;
  high[through] = last;
  return [low, high];
}

function depth(engine: Engine, plane: Plane, from: Voxel, to: Voxel): [number, number] {
  const { across, up, through } = AXES[plane];
  const at = from[through];
  const known = app.get().draft.box?.map((corner) => engine.toRas(corner)[through]);
  if (known) {
    const [first, last] = [Math.min(...known), Math.max(...known)];
    if (at >= first && at <= last) return [first, last];
  }
  const extent = (axis: 0 | 1 | 2): number => Math.abs(to[axis] - from[axis]) * (engine.spacing(axis) ?? 1);
  const half = Math.round((extent(across) + extent(up)) / 4 / (engine.spacing(through) ?? 1));
  return [Math.max(0, at - half), Math.min(engine.size(through) - 1, at + half)];
}

function measure(engine: Engine, from: Hit, to: Hit): void {
  const { across, up, through } = AXES[from.plane];
  const length = [across, up].map((axis) => {
    const spacing = engine.spacing(axis);
    return spacing === null ? NaN : (to.exact[axis] - from.exact[axis]) * spacing;
  });
  const mm = Math.hypot(...length);
  const line = {
    plane: from.plane,
    slice: from.ras[through],
    from: [from.exact[across], from.exact[up]] as [number, number],
    to: [to.exact[across], to.exact[up]] as [number, number],
    mm: Number.isNaN(mm) ? null : mm,
  };
  // While a line is drawn, it replaces what it was a moment ago.
  const others = engine.measures.filter((m) => m.plane !== line.plane || m.from[0] !== line.from[0] || m.from[1] !== line.from[1]);
  engine.measures = [...others, line];
}
