// As much of NIfTI-1 as the server's masks need: little endian, one 3D array of labels.

export interface LabelVolume {
  shape: [number, number, number];
  labels: Uint8Array | Uint16Array;
}

export async function gunzip(bytes: ArrayBuffer): Promise<ArrayBuffer> {
  const head = new Uint8Array(bytes, 0, 2);
  if (head[0] !== 0x1f || head[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** Reads an array of labels; fails with a sentence where the file is something else. */
export function readLabels(bytes: ArrayBuffer): LabelVolume {
  const view = new DataView(bytes);
  if (bytes.byteLength < 352 || view.getInt32(0, true) !== 348) throw new Error("the mask is not a NIfTI file");
  const shape = [1, 2, 3].map((axis) => view.getInt16(40 + 2 * axis, true)) as [number, number, number];
  const offset = view.getFloat32(108, true);
  const datatype = view.getInt16(70, true);
  const voxels = shape[0] * shape[1] * shape[2];
  if (datatype === 2) return { shape, labels: new Uint8Array(bytes, offset, voxels) };
  if (datatype === 512 || datatype === 4) {
    return { shape, labels: new Uint16Array(bytes.slice(offset, offset + 2 * voxels)) };
  }
  throw new Error("the mask has a number format that the page does not read");
}
