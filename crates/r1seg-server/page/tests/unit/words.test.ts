import { expect, test } from "vitest";
import { problemOf } from "../../src/api/errors";
import { nameOf, wanted } from "../../src/lib/drop";
import { answerText, bytes, milliliters, signed, spacing } from "../../src/lib/format";
import { actionOf, HELP } from "../../src/lib/keys";
import { gunzip, readLabels } from "../../src/lib/nifti";
import { firstWindow, nextPreset, presetOf, PRESETS } from "../../src/lib/windows";
import { explain, framesIn, remedy, remedyOf } from "../../src/lib/words";

test("numbers have units, and no more digits than they mean", () => {
  expect(milliliters(1612.3)).toBe("1,612 mL");
  expect(milliliters(75.04)).toBe("75.0 mL");
  expect(milliliters(0.004)).toBe("< 0.01 mL");
  expect(bytes(2_400_000)).toBe("2.4 MB");
  expect(signed(-1024)).toBe("−1024");
  expect(spacing([0.78, 0.78, 1.25])).toBe("0.78 × 0.78 × 1.25 mm");
  expect(spacing(null)).toBe("spacing unknown");
});

test("an answer is shown without the mark of its mask", () => {
  expect(answerText("It is the liver, [SEG].")).toBe("It is the liver.");
  expect(answerText("Sure, it is [SEG].")).toBe("Sure, it is.");
});

test("errors keep the server's words and say what they mean here", () => {
  const body = JSON.stringify({ error: { code: "R-DCM-02", message: "3 series", fix: null, request_id: "r", series: [{ number: 1, id: "1.2" }] } });
  expect(problemOf(422, body, null).kind).toBe("choice");
  expect(problemOf(429, "", "7")).toMatchObject({ kind: "busy", retryAfterS: 7 });
  expect(problemOf(502, "<html>", null)).toMatchObject({ kind: "failed", message: "the server answered with status 502" });
  expect(explain(problemOf(401, "", null)).title).toMatch(/key/);
});

test("remedies that name a field of a request become choices on the page", () => {
  expect(remedyOf({ fix: "send the field `spacing` with the millimeters of a voxel, i,j,k" })).toBe("spacing");
  expect(remedyOf({ fix: "send no field `frame`: the file holds one volume" })).toBe("no-frame");
  expect(remedyOf({ fix: "send a CT" })).toBeNull();
  expect(framesIn("send the field `frame` with a number from 0 to 11")).toBe(11);
  expect(remedy("send the field `spacing` with the millimeters of a voxel, i,j,k")).toBeNull();
  expect(remedy("export the series again")).toBe("Export the series again.");
});

test("files that systems leave behind are not uploaded, and slices are in order", () => {
  const file = new File([], "x");
  const files = wanted(["ct/10.dcm", "ct/9.dcm", "ct/.DS_Store", "__MACOSX/ct/9.dcm", "ct/Thumbs.db"].map((path) => ({ path, file })));
  expect(files.map(({ path }) => path)).toEqual(["ct/9.dcm", "ct/10.dcm"]);
  expect(nameOf(files)).toBe("ct, 2 files");
});

test("windows go around, and a scan that is not in HU opens with its own range", () => {
  let window = PRESETS[0] as { width: number; level: number };
  for (let n = 0; n < PRESETS.length; n += 1) window = nextPreset(window);
  expect(presetOf(window)?.id).toBe("soft");
  expect(firstWindow(false, [0, 1])).toEqual({ width: 1, level: 0.5 });
});

test("every key of the help does something", () => {
  for (const key of HELP.flatMap(({ rows }) => rows.flatMap(({ keys }) => keys)).filter((key) => /^[a-z/0-9]$/.test(key))) {
    expect(actionOf(key), key).not.toBeNull();
  }
});

test("masks are read from NIfTI, zipped or not, and other files are refused", async () => {
  const bytes = new ArrayBuffer(352 + 8);
  const view = new DataView(bytes);
  view.setInt32(0, 348, true);
  [2, 2, 2].forEach((n, axis) => view.setInt16(42 + 2 * axis, n, true));
  view.setInt16(70, 2, true);
  view.setFloat32(108, 352, true);
  view.setUint8(352 + 5, 3);
  const zipped = await new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"))).arrayBuffer();
  for (const file of [bytes, zipped]) expect(readLabels(await gunzip(file)).labels[5]).toBe(3);
  expect(() => readLabels(new ArrayBuffer(400))).toThrow("not a NIfTI file");
});
