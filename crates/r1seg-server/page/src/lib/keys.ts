// The keys of the page: one list for the handler and for the help.

export type Action =
  | "ask"
  | "slice-up"
  | "slice-down"
  | "window"
  | "masks"
  | "mask"
  | "look"
  | "positive"
  | "negative"
  | "box"
  | "measure"
  | "undo"
  | "help"
  | "theme"
  | "pane";

export interface KeyHelp {
  keys: string[];
  does: string;
}

export const HELP: readonly { title: string; rows: readonly KeyHelp[] }[] = [
  {
    title: "Reading",
    rows: [
      { keys: ["↑", "↓", "wheel"], does: "slices of the pane in use" },
      { keys: ["Shift", "arrows"], does: "move the crosshair in the plane" },
      { keys: ["w"], does: "next window" },
      { keys: ["x"], does: "one pane or all (or double click)" },
      { keys: ["right drag"], does: "window and level" },
      { keys: ["Shift", "drag"], does: "pan" },
    ],
  },
  {
    title: "Asking",
    rows: [
      { keys: ["/"], does: "ask a question" },
      { keys: ["m"], does: "hide or show all masks" },
      { keys: ["1", "…", "9"], does: "go to a mask" },
    ],
  },
  {
    title: "Tools",
    rows: [
      { keys: ["l"], does: "look" },
      { keys: ["p"], does: "point inside" },
      { keys: ["n"], does: "point outside" },
      { keys: ["b"], does: "box" },
      { keys: ["d"], does: "measure a distance" },
      { keys: ["Enter"], does: "point at the crosshair" },
      { keys: ["z"], does: "take the last click back" },
      { keys: ["Esc"], does: "let go of the tool" },
    ],
  },
];

const ACTIONS: Record<string, Action> = {
  "/": "ask",
  ArrowUp: "slice-up",
  ArrowRight: "slice-up",
  PageUp: "slice-up",
  ArrowDown: "slice-down",
  ArrowLeft: "slice-down",
  PageDown: "slice-down",
  w: "window",
  m: "masks",
  l: "look",
  Escape: "look",
  p: "positive",
  n: "negative",
  b: "box",
  d: "measure",
  z: "undo",
  "?": "help",
  t: "theme",
  x: "pane",
};

/** What a key means where no text is being typed. */
export function actionOf(key: string): Action | null {
  if (/^[1-9]$/.test(key)) return "mask";
  return ACTIONS[key] ?? ACTIONS[key.toLowerCase()] ?? null;
}
