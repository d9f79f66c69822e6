// Colors of masks. The server gives each label one; masks of different answers must differ, too.

export type Rgb = [number, number, number];

/** Okabe and Ito's, as on the server's pictures: people with any common color blindness tell them apart. */
const PALETTE: readonly Rgb[] = [
  [230, 159, 0],
  [86, 180, 233],
  [0, 158, 115],
  [240, 228, 66],
  [213, 94, 0],
  [204, 121, 167],
  [0, 114, 178],
];

/** The color that was asked for, or the first free one where another mask has it. */
export function free(wanted: Rgb, taken: readonly Rgb[]): Rgb {
  const isTaken = (color: Rgb): boolean => taken.some((other) => other.every((part, i) => part === color[i]));
  if (!isTaken(wanted)) return wanted;
  const paler = PALETTE.map((color) => color.map((part) => Math.round((part + 255) / 2)) as Rgb);
  return [...PALETTE, ...paler].find((color) => !isTaken(color)) ?? wanted;
}

export function toHex(color: Rgb): string {
  return `#${color.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

export function fromHex(hex: string): Rgb {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)) as Rgb;
}
