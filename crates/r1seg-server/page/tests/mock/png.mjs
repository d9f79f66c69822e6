// A PNG of a slice, as the server would draw it.

import { crc32, deflateSync } from "node:zlib";

export function png(width, height, rgb) {
  const rows = Buffer.alloc(height * (1 + 3 * width));
  for (let y = 0; y < height; y += 1) Buffer.from(rgb.buffer, 3 * width * y, 3 * width).copy(rows, y * (1 + 3 * width) + 1);
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", head), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const framed = Buffer.alloc(body.length + 8);
  framed.writeUInt32BE(data.length, 0);
  body.copy(framed, 4);
  framed.writeUInt32BE(checksum(body), body.length + 4);
  return framed;
}

/** zlib.crc32 came with node 20.15; older ones compute it here. */
function checksum(bytes) {
  if (crc32) return crc32(bytes);
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}

/** A slice in the radiological way, with the masks that are given as `[label, color]`. */
export function slice({ shape, hu, labels }, axis, index, low, high, masks) {
  const [w, h, d] = shape;
  const [width, height, at] = {
    axial: [w, h, (x, y) => w - 1 - x + w * (h - 1 - y) + w * h * index],
    coronal: [w, d, (x, y) => w - 1 - x + w * index + w * h * (d - 1 - y)],
    sagittal: [h, d, (x, y) => index + w * (h - 1 - x) + w * h * (d - 1 - y)],
  }[axis];
  const rgb = new Uint8Array(3 * width * height);
  const colors = new Map(masks);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const voxel = at(x, y);
      const gray = Math.min(255, Math.max(0, (255 * (hu[voxel] - low)) / (high - low)));
      const color = colors.get(labels[voxel]);
      for (let c = 0; c < 3; c += 1) rgb[3 * (width * y + x) + c] = color ? 0.5 * gray + 0.5 * color[c] : gray;
    }
  }
  return png(width, height, rgb);
}
