import { expect, test } from "vitest";
import { Grid, letters, sliceLetter } from "../../src/lib/orientation";

const PERMUTATIONS = [
  [1, 2, 3],
  [-1, -2, 3],
  [2, -3, 1],
  [-3, 1, -2],
] as const;

test("voxels go to the screen's order and back, whatever the file's order", () => {
  for (const permutation of PERMUTATIONS) {
    const grid = new Grid(permutation, [4, 5, 6]);
    expect(grid.toFile(grid.toRas([3, 0, 2]))).toEqual([3, 0, 2]);
  }
});

test("strides find the same voxel as indexes do", () => {
  for (const permutation of PERMUTATIONS) {
    const grid = new Grid(permutation, [4, 5, 6]);
    const { start, step } = grid.strides();
    const ras = [1, 2, 0];
    const [i, j, k] = grid.toFile(ras);
    expect(start + ras.reduce((sum, at, axis) => sum + at * (step[axis] as number), 0)).toBe(i + 4 * j + 20 * k);
  }
});

test("a file that runs to the left is turned around", () => {
  const grid = new Grid([-1, 2, 3], [10, 1, 1]);
  expect(grid.toRas([0, 0, 0])).toEqual([9, 0, 0]);
  expect(sliceLetter(new Grid([2, 3, 1], [1, 1, 1]), "axial")).toBe("i");
});

test("the radiological convention has the patient's right on the left", () => {
  expect(letters("axial", true)).toEqual({ left: "R", right: "L", top: "A", bottom: "P" });
  expect(letters("coronal", false)).toEqual({ left: "L", right: "R", top: "S", bottom: "I" });
  expect(letters("sagittal", true)).toEqual({ left: "A", right: "P", top: "S", bottom: "I" });
});
