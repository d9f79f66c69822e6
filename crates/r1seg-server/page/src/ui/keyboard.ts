// The keys, wherever nobody is typing.

import { actionOf } from "../lib/keys";
import { AXES, PLANES, type Plane } from "../lib/orientation";
import { app, currentModel } from "../state/app";
import { takesBox, takesPoints } from "../state/capabilities";
import { addPoint, undo } from "../state/drafts";
import { cycleWindow, selectMask, setOnly, setTool, toggleMasks, toggleTheme } from "../state/view";
import { engine } from "../viewer/current";

export function listenForKeys(): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const target = event.target as HTMLElement;
    if (target.closest("dialog") || isTyping(target)) return;
    if (event.key === "Enter" && target.closest(".pane-slider")) {
      place();
      event.preventDefault();
    } else if (act(event, target)) {
      event.preventDefault();
    }
  });
}

function isTyping(target: HTMLElement): boolean {
  return target.matches("input, textarea, select, [contenteditable]");
}

function planeInUse(target: HTMLElement): Plane {
  const plane = target.closest<HTMLElement>("[data-plane]")?.dataset["plane"] as Plane | undefined;
  const { main, only } = app.get();
  return plane ?? (PLANES as readonly string[]).find((p) => p === only) as Plane | undefined ?? main;
}

/** Does what a key means; false where it means nothing now. */
function act(event: KeyboardEvent, target: HTMLElement): boolean {
  const state = app.get();
  const model = currentModel(state);
  if (event.key.startsWith("Arrow") && target.closest("[role=region]")) return false;
  if (event.shiftKey && event.key.startsWith("Arrow")) return crosshair(event.key, planeInUse(target));
  switch (actionOf(event.key)) {
    case "ask":
      document.getElementById("ask")?.focus();
      return true;
    case "slice-up":
      return slice(planeInUse(target), event.key === "PageUp" ? 10 : 1);
    case "slice-down":
      return slice(planeInUse(target), event.key === "PageDown" ? -10 : -1);
    case "window":
      cycleWindow();
      return true;
    case "masks":
      toggleMasks();
      return true;
    case "mask": {
      const mask = state.masks[Number(event.key) - 1];
      if (mask) selectMask(mask.id);
      return mask !== undefined;
    }
    case "look":
      if (event.key === "Escape" && state.only) setOnly(state.only);
      setTool("look");
      return true;
    case "positive":
      if (takesPoints(model)) setTool("positive");
      return true;
    case "negative":
      if (takesPoints(model)) setTool("negative");
      return true;
    case "box":
      if (takesBox(model)) setTool("box");
      return true;
    case "measure":
      setTool("measure");
      return true;
    case "undo":
      undo();
      return true;
    case "help":
      app.set({ dialog: { kind: "help" } });
      return true;
    case "theme":
      toggleTheme();
      return true;
    case "pane":
      setOnly(state.only ?? planeInUse(target));
      return true;
    default:
      return false;
  }
}

function slice(plane: Plane, by: number): boolean {
  const step = [0, 0, 0];
  step[AXES[plane].through] = by;
  engine()?.move(...(step as [number, number, number]));
  return engine() !== null;
}

function crosshair(key: string, plane: Plane): boolean {
  const { across, up } = AXES[plane];
  // On screen the patient's right is on the left, and in the sagittal plane the front is.
  const mirrored = plane === "sagittal" || app.get().radiological;
  const step = [0, 0, 0];
  if (key === "ArrowLeft") step[across] = mirrored ? 1 : -1;
  if (key === "ArrowRight") step[across] = mirrored ? -1 : 1;
  if (key === "ArrowUp") step[up] = 1;
  if (key === "ArrowDown") step[up] = -1;
  engine()?.move(...(step as [number, number, number]));
  return engine() !== null;
}

/** A point at the crosshair, for those who do not use a mouse. */
function place(): void {
  const { tool, cursor } = app.get();
  if (cursor && (tool === "positive" || tool === "negative")) addPoint(cursor.voxel, tool === "positive");
}
