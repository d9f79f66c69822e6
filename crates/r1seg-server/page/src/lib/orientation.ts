// Planes, their letters, and the way between the order of the screen (right to left, posterior to
// anterior, inferior to superior: "RAS") and the order of the file (i, j, k).

import type { Voxel } from "../types";

export type Plane = "axial" | "coronal" | "sagittal";

export const PLANES: readonly Plane[] = ["axial", "coronal", "sagittal"];

/** Which RAS axes run across and up a plane, and which one runs through it. */
export const AXES: Record<Plane, { across: 0 | 1 | 2; up: 0 | 1 | 2; through: 0 | 1 | 2 }> = {
  axial: { across: 0, up: 1, through: 2 },
  coronal: { across: 0, up: 2, through: 1 },
  sagittal: { across: 1, up: 2, through: 0 },
};

export interface Letters {
  left: string;
  right: string;
  top: string;
  bottom: string;
}

/** The letters at a pane's edges; the radiological convention sees the patient from the feet. */
export function letters(plane: Plane, radiological: boolean): Letters {
  const [left, right] = plane === "sagittal" ? ["A", "P"] : radiological ? ["R", "L"] : ["L", "R"];
  const [top, bottom] = plane === "axial" ? ["A", "P"] : ["S", "I"];
  return { left, right, top, bottom } as Letters;
}

/** `permutation[r]` names the file axis (1, 2 or 3) of RAS axis `r`, negative where it runs backwards. */
export class Grid {
  constructor(
    readonly permutation: readonly [number, number, number],
    readonly shape: Voxel,
  ) {}

  /** How many voxels RAS axis `axis` has. */
  size(axis: 0 | 1 | 2): number {
    return this.shape[this.fileAxis(axis)] as number;
  }

  fileAxis(axis: 0 | 1 | 2): 0 | 1 | 2 {
    return (Math.abs(this.permutation[axis]) - 1) as 0 | 1 | 2;
  }

  toFile(ras: readonly number[]): Voxel {
    const voxel: Voxel = [0, 0, 0];
    for (const axis of [0, 1, 2] as const) {
      const at = Math.round(ras[axis] as number);
      voxel[this.fileAxis(axis)] = this.permutation[axis] > 0 ? at : this.size(axis) - 1 - at;
    }
    return voxel;
  }

  toRas(voxel: readonly number[]): Voxel {
    const ras: Voxel = [0, 0, 0];
    for (const axis of [0, 1, 2] as const) {
      const at = voxel[this.fileAxis(axis)] as number;
      ras[axis] = this.permutation[axis] > 0 ? at : this.size(axis) - 1 - at;
    }
    return ras;
  }

  /** Where RAS voxel (0, 0, 0) lies in the file's array, and the step along each RAS axis. */
  strides(): { start: number; step: Voxel } {
    const file = [1, this.shape[0], this.shape[0] * this.shape[1]];
    const step: Voxel = [0, 0, 0];
    let start = 0;
    for (const axis of [0, 1, 2] as const) {
      const along = file[this.fileAxis(axis)] as number;
      const forward = this.permutation[axis] > 0;
      step[axis] = forward ? along : -along;
      if (!forward) start += along * (this.size(axis) - 1);
    }
    return { start, step };
  }
}

/** The letter of the file axis that a plane's slices count along: i, j or k. */
export function sliceLetter(grid: Grid, plane: Plane): string {
  return "ijk"[grid.fileAxis(AXES[plane].through)] as string;
}
