import { expect, test } from "vitest";
import { contours, type Loop } from "../../src/lib/contours";

function outline(rows: string[]): Loop[] {
  const [height, width] = [rows.length, (rows[0] as string).length];
  const inside = (x: number, y: number): boolean => rows[y]?.[x] === "#";
  return contours({ width, height, inside, bounds: { x: [0, width - 1], y: [0, height - 1] } });
}

/** The area that lines enclose; holes count against it. */
function area(loops: Loop[]): number {
  let twice = 0;
  for (const loop of loops) {
    for (let i = 0; i < loop.length; i += 2) {
      const [x, y] = [loop[i] as number, loop[i + 1] as number];
      const [nx, ny] = [loop[(i + 2) % loop.length] as number, loop[(i + 3) % loop.length] as number];
      twice += x * ny - nx * y;
    }
  }
  return Math.abs(twice) / 2;
}

test("one voxel is a diamond around its middle", () => {
  const [loop, ...others] = outline(["...", ".#.", "..."]);
  expect(others).toEqual([]);
  expect(loop).toHaveLength(8);
  expect(area([loop as Loop])).toBe(0.5);
});

test("a mask that touches the edge of the slice is closed there", () => {
  expect(area(outline(["##", "##"]))).toBe(3.5);
});

test("a hole takes its area away", () => {
  const loops = outline(["#####", "#####", "##.##", "#####", "#####"]);
  expect(loops).toHaveLength(2);
  expect(area(loops)).toBe(24.5 - 0.5);
});

test("parts that touch at a corner stay apart", () => {
  expect(outline(["#.", ".#"])).toHaveLength(2);
});

test("straight lines have no points in their middle", () => {
  expect(outline(["####"])[0]).toHaveLength(12);
});
