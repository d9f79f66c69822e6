// Numbers as people read them. Every number has its unit.

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function count(value: number): string {
  return grouped.format(value);
}

export function bytes(value: number): string {
  if (value < 1000) return `${value} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let size = value / 1000;
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size < 10 ? size.toFixed(1) : size.toFixed(0)} ${units[unit]}`;
}

/** A volume in mL: three figures that mean something, and no more. */
export function milliliters(value: number): string {
  if (value > 0 && value < 0.01) return "< 0.01 mL";
  if (value < 1) return `${value.toFixed(2)} mL`;
  if (value < 100) return `${value.toFixed(1)} mL`;
  return `${grouped.format(value)} mL`;
}

export function shape(value: readonly number[]): string {
  return value.join(" × ");
}

export function spacing(value: readonly number[] | null): string {
  if (!value) return "spacing unknown";
  return `${value.map((x) => trimmed(x)).join(" × ")} mm`;
}

function trimmed(value: number): string {
  return value.toFixed(2).replace(/\.?0+$/, "");
}

/** A number with a true minus sign, whole unless it is small; intensities are not grouped, as on other viewers. */
export function signed(value: number): string {
  const rounded = Math.abs(value) < 10 ? Number(value.toFixed(2)) : Math.round(value);
  return rounded < 0 ? `−${-rounded}` : String(rounded);
}

export function percent(part: number, whole: number): number {
  return whole > 0 ? Math.min(100, Math.round((100 * part) / whole)) : 0;
}

export function seconds(milliseconds: number): string {
  const value = milliseconds / 1000;
  return value < 10 ? `${value.toFixed(1)} s` : `${value.toFixed(0)} s`;
}

/** How long everything took, in milliseconds: the total where it is said, else all stages. */
export function duration(timings: Record<string, unknown>): number {
  const sum = (value: unknown): number => {
    if (typeof value === "number") return value;
    return typeof value === "object" && value !== null ? Object.values(value).reduce<number>((all, one) => all + sum(one), 0) : 0;
  };
  const { total } = timings;
  return typeof total === "number" ? total : sum(timings);
}

/** The time of day at which something ends. */
export function clock(unix: number): string {
  return new Date(unix * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}

export function minutes(value: number): string {
  const whole = Math.round(value / 60);
  if (whole < 1) return `${Math.round(value)} s`;
  if (whole < 120) return `${whole} min`;
  return `${Math.round(whole / 60)} h`;
}

/** What an answer says, without the marks that models put where a mask belongs. */
export function answerText(text: string): string {
  return text
    .replace(/\s*,?\s*\[SEG\]/g, "")
    .replace(/\s+([.,;:!?])/g, "$1")
    .trim();
}

export function color([r, g, b]: readonly [number, number, number], alpha = 1): string {
  return alpha === 1 ? `rgb(${r} ${g} ${b})` : `rgb(${r} ${g} ${b} / ${alpha})`;
}
