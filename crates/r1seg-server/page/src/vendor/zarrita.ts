// Stands for zarrita, which NiiVue uses for Zarr archives only. This page shows one NIfTI file, and
// what would fetch from elsewhere is left out of it.

function absent(): never {
  throw new Error("the page is built without Zarr");
}

export const get = absent;
export const open = absent;
export const root = absent;
export const slice = absent;

export class FetchStore {
  constructor() {
    absent();
  }
}
