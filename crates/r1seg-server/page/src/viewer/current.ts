// The engine of the viewer that is on screen, for keys and tools that act upon it.

import type { Engine } from "./engine";

let current: Engine | null = null;

export function setEngine(engine: Engine | null): void {
  current = engine;
}

export function engine(): Engine | null {
  return current;
}
