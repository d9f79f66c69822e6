// A torso of ellipsoids as NIfTI, and its organs as masks: what the mock server serves.

import { gzipSync } from "node:zlib";

export const SHAPE = [144, 116, 104];
export const SPACING = [2.5, 2.5, 3];

/** Millimeters from the middle, in the patient's directions: right is positive x. */
export const ORGANS = [
  { name: "liver", color: [230, 159, 0], hu: 105, at: [62, 12, 18], radii: [72, 66, 58] },
  { name: "spleen", color: [86, 180, 233], hu: 115, at: [-92, -38, 26], radii: [26, 34, 46] },
  { name: "left kidney", color: [0, 158, 115], hu: 150, at: [-62, -48, -46], radii: [25, 26, 52] },
  { name: "right kidney", color: [240, 228, 66], hu: 150, at: [62, -48, -56], radii: [25, 26, 52] },
  { name: "aorta", color: [213, 94, 0], hu: 210, at: [-8, -34, 0], radii: [12, 12, 400] },
];

const BONES = [
  { hu: 420, at: [0, -70, 0], radii: [21, 19, 400] },
  { hu: 60, at: [0, -92, 0], radii: [7, 9, 400] },
];

const LUNGS = [
  { hu: -820, at: [80, 6, 128], radii: [58, 78, 98] },
  { hu: -820, at: [-80, 6, 130], radii: [54, 76, 96] },
];

function inside({ at, radii }, x, y, z) {
  return ((x - at[0]) / radii[0]) ** 2 + ((y - at[1]) / radii[1]) ** 2 + ((z - at[2]) / radii[2]) ** 2 <= 1;
}

function noise(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
}

/** Ribs: short arcs in the wall of the chest, slanted as ribs are. */
function rib(x, y, z, r) {
  if (r < 0.845 || r > 0.905 || z < -60) return false;
  const slant = z + 0.35 * (y + 60);
  return ((slant % 34) + 34) % 34 < 11;
}

/** Intensities and labels, i fastest; i runs to the patient's right, j to the front, k up. */
export function draw() {
  const [w, h, d] = SHAPE;
  const hu = new Int16Array(w * h * d);
  const labels = new Uint8Array(w * h * d);
  const random = noise(7);
  let index = 0;
  for (let k = 0; k < d; k += 1) {
    for (let j = 0; j < h; j += 1) {
      for (let i = 0; i < w; i += 1, index += 1) {
        const [x, y, z] = [(i - w / 2) * SPACING[0], (j - h / 2) * SPACING[1], (k - d / 2) * SPACING[2]];
        hu[index] = Math.round(tissue(x, y, z, (label) => (labels[index] = label)) + 26 * random());
      }
    }
  }
  return { hu, labels };
}

function tissue(x, y, z, setLabel) {
  const narrow = 1 - 0.06 * Math.cos(z / 60);
  const r = Math.sqrt((x / (168 * narrow)) ** 2 + (y / (128 * narrow)) ** 2);
  if (r > 1) return -1000;
  if (r > 0.93) return -105;
  for (const bone of BONES) if (inside(bone, x, y, z)) return bone.hu;
  if (rib(x, y, z, r)) return 380;
  if (r > 0.82) return 55;
  for (let n = ORGANS.length; n > 0; n -= 1) {
    if (inside(ORGANS[n - 1], x, y, z) && !(n === 1 && inside(LUNGS[0], x, y, z))) {
      setLabel(n);
      return ORGANS[n - 1].hu;
    }
  }
  for (const lung of LUNGS) if (inside(lung, x, y, z)) return lung.hu;
  return z > 60 ? 40 : -70 + 60 * Math.sin(x / 21) * Math.cos(y / 17) * Math.sin(z / 23);
}

/** A NIfTI-1 file whose axes run to the patient's right, front and top. */
export function nifti(data, datatype, { shape = SHAPE, spacing = SPACING } = {}) {
  const header = Buffer.alloc(352);
  header.writeInt32LE(348, 0);
  [3, ...shape, 1, 1, 1, 1].forEach((n, i) => header.writeInt16LE(n, 40 + 2 * i));
  header.writeInt16LE(datatype, 70);
  header.writeInt16LE(8 * data.BYTES_PER_ELEMENT, 72);
  [1, ...spacing, 0, 0, 0, 0].forEach((n, i) => header.writeFloatLE(n, 76 + 4 * i));
  header.writeFloatLE(352, 108);
  header.writeFloatLE(1, 112);
  header.writeInt8(2, 123);
  header.writeInt16LE(1, 254);
  shape.forEach((n, axis) => {
    const row = 280 + 16 * axis;
    header.writeFloatLE(spacing[axis], row + 4 * axis);
    header.writeFloatLE((-n / 2) * spacing[axis], row + 12);
  });
  header.write("n+1\0", 344, "latin1");
  return Buffer.concat([header, Buffer.from(data.buffer, data.byteOffset, data.byteLength)]);
}

export const zipped = (bytes) => gzipSync(bytes, { level: 1 });
