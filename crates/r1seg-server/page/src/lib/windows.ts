// Windows: which intensities become black and which white.

export interface Window {
  width: number;
  level: number;
}

export interface Preset extends Window {
  id: string;
  name: string;
}

export const PRESETS: readonly Preset[] = [
  { id: "soft", name: "Soft", width: 400, level: 40 },
  { id: "lung", name: "Lung", width: 1500, level: -600 },
  { id: "bone", name: "Bone", width: 1800, level: 400 },
  { id: "brain", name: "Brain", width: 80, level: 40 },
];

export function rangeOf({ width, level }: Window): [number, number] {
  return [level - width / 2, level + width / 2];
}

export function windowOf(low: number, high: number): Window {
  return { width: high - low, level: (low + high) / 2 };
}

export function presetOf(window: Window): Preset | undefined {
  return PRESETS.find((preset) => Math.abs(preset.width - window.width) < 1 && Math.abs(preset.level - window.level) < 1);
}

export function nextPreset(window: Window): Preset {
  const current = presetOf(window);
  const index = current ? PRESETS.indexOf(current) : -1;
  return PRESETS[(index + 1) % PRESETS.length] as Preset;
}

/** The window that a volume opens with: soft tissue where it is in HU, else all of its range. */
export function firstWindow(isHu: boolean, range: readonly [number, number] | null): Window {
  if (isHu || !range) return PRESETS[0] as Preset;
  const [low, high] = range;
  return windowOf(low, high > low ? high : low + 1);
}
