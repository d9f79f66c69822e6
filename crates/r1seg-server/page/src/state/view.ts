// How the scan is shown.

import type { Rgb } from "../lib/colors";
import type { Plane } from "../lib/orientation";
import { nextPreset, type Window } from "../lib/windows";
import { announce, app, type AppState, type Tool } from "./app";

export function setWindow(window: Window): void {
  app.set({ window });
}

export function cycleWindow(): void {
  const preset = nextPreset(app.get().window);
  app.set({ window: { width: preset.width, level: preset.level } });
  announce(`${preset.name} window.`);
}

export function toggleMasks(): void {
  const showMasks = !app.get().showMasks;
  app.set({ showMasks });
  announce(showMasks ? "Masks shown." : "Masks hidden.");
}

export function toggleMask(id: string): void {
  app.set(({ masks }) => ({ masks: masks.map((mask) => (mask.id === id ? { ...mask, visible: !mask.visible } : mask)), showMasks: true }));
}

export function colorMask(id: string, color: Rgb): void {
  app.set(({ masks }) => ({ masks: masks.map((mask) => (mask.id === id ? { ...mask, color } : mask)) }));
}

export function selectMask(id: string): void {
  app.set({ selected: id });
  for (const listener of jumps) listener(id);
}

const jumps = new Set<(id: string) => void>();

/** Calls back when someone wants to see a mask. */
export function onJump(listener: (id: string) => void): () => void {
  jumps.add(listener);
  return () => jumps.delete(listener);
}

export function setTool(tool: Tool): void {
  app.set({ tool });
}

export function setMain(main: Plane): void {
  app.set({ main, only: null });
}

export function setOnly(only: AppState["only"]): void {
  app.set((state) => ({ only: state.only === only ? null : only }));
}

const THEME = "r1seg.theme";

export function firstTheme(): AppState["theme"] {
  const saved = localStorage.getItem(THEME);
  if (saved === "dark" || saved === "light") return saved;
  return matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
}

export function applyTheme(theme: AppState["theme"]): void {
  document.documentElement.dataset["theme"] = theme;
  app.set({ theme });
}

export function toggleTheme(): void {
  const theme = app.get().theme === "dark" ? "light" : "dark";
  localStorage.setItem(THEME, theme);
  applyTheme(theme);
}
