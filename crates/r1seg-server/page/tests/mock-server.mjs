// Speaks the server's HTTP API with a phantom of its own, so that the page can be built and tested
// without Rust, and brought into states that are hard to reach.
//
//   node tests/mock-server.mjs [--port N] [--key KEY] [--dist DIR] [--only MODEL] [--fast]
//
// Words in a question choose what happens: "busy", "fail", "nothing", "empty", "all", "overlap", "wait".
// Names of files do: "series", "frames", "nospacing", "broken".

import { createHash, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { MODELS } from "./mock/models.mjs";
import { draw, nifti, ORGANS, SHAPE, SPACING, zipped } from "./mock/phantom.mjs";
import { slice } from "./mock/png.mjs";

const { values: options } = parseArgs({
  options: {
    port: { type: "string", default: "8090" },
    key: { type: "string" },
    dist: { type: "string", default: join(dirname(fileURLToPath(import.meta.url)), "..", "dist") },
    only: { type: "string", multiple: true },
    fast: { type: "boolean", default: false },
  },
});

const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8" };

const phantom = draw();
const volumes = new Map();
const results = new Map();
const models = options.only ? MODELS.filter(({ id }) => options.only.includes(id)) : MODELS;
const pause = (ms) => new Promise((done) => setTimeout(done, options.fast ? Math.min(ms, 20) : ms));

class Refusal extends Error {
  constructor(status, code, message, fix = null, extra = {}) {
    super(message);
    Object.assign(this, { status, code, fix, extra });
  }
}

const server = createServer((request, response) => {
  route(request, response).catch((error) => {
    const { status = 500, code = "R-SRV-00", message, fix = null, extra = {} } = error;
    if (response.headersSent) return response.end();
    json(response, status, { error: { code, message, fix, request_id: "req_mock", ...extra } }, status === 429 ? { "retry-after": "3" } : {});
  });
});
server.listen(Number(options.port), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/`));

async function route(request, response) {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  const path = pathname.split("/").filter(Boolean);
  if (path[0] !== "v1") return page(pathname, response);
  if (path[1] === "info") return json(response, 200, info());
  if (options.key && request.headers.authorization !== `Bearer ${options.key}`) throw new Refusal(401, "R-SRV-01", "a key is needed");
  if (path[1] === "models") return json(response, 200, { object: "list", data: models });
  if (path[1] === "segment") return segment(await body(request), request, response);
  if (path[1] === "results") return resultFile(path, response);
  if (path[1] === "volumes" && request.method === "POST") {
    const bytes = await body(request);
    await pause(400);
    const volume = path[2] === "phantom" ? volumeOf("phantom_7.nii.gz", "") : volumeOf(nameIn(bytes), fieldsIn(bytes));
    volumes.set(volume.id, volume);
    return json(response, 201, volume);
  }
  const volume = volumes.get(path[2]);
  if (!volume) throw new Refusal(404, "R-SRV-04", "no such volume");
  if (request.method === "DELETE") {
    volumes.delete(volume.id);
    return response.writeHead(204).end();
  }
  if (path[3] === "volume.nii.gz") return file(response, ct, "application/gzip");
  if (path[3] === "slice.png") return file(response, sliceOf(searchParams), "image/png");
  json(response, 200, volume);
}

const ct = zipped(nifti(phantom.hu, 4));

function info() {
  return {
    version: "0.1.0",
    key_required: options.key !== undefined,
    limits: { max_body_bytes: 2_000_000_000, ttl_s: 3600, queue: 32, timeout_s: 600 },
    demo: models.some(({ is_demo }) => is_demo),
    research_use_only: true,
  };
}

function volumeOf(name, fields) {
  if (name.includes("broken")) throw new Refusal(415, "R-NII-01", "the file is neither NIfTI nor NRRD nor DICOM");
  if (name.includes("series") && !fields.includes('name="series"')) {
    const series = [
      { number: 1, id: "1.2.826.0.1.3680043.8.498.1021", modality: "CT", slices: 301, shape: [512, 512, 301], spacing_mm: [0.78, 0.78, 1], is_localizer: false, problem: null },
      { number: 2, id: "1.2.826.0.1.3680043.8.498.1022", modality: "CT", slices: 61, shape: [512, 512, 61], spacing_mm: [0.78, 0.78, 5], is_localizer: false, problem: null },
      { number: 3, id: "1.2.826.0.1.3680043.8.498.1023", modality: "CT", slices: 2, shape: null, spacing_mm: null, is_localizer: true, problem: "two slices are not a volume" },
    ];
    throw new Refusal(409, "R-DCM-02", "3 series; one must be chosen", "send the field `series` with the number or the id of one of them", { series });
  }
  if (name.includes("frames") && !fields.includes('name="frame"')) {
    throw new Refusal(422, "R-NII-11", "volume has 12 frames (144x116x104x12); one 3D volume is needed", "send the field `frame` with a number from 0 to 11");
  }
  const unknown = name.includes("nospacing") && !fields.includes('name="spacing"');
  const now = Math.floor(Date.now() / 1000);
  return {
    id: `vol_${randomBytes(16).toString("hex")}`,
    name,
    kind: "nifti",
    shape: SHAPE,
    spacing_mm: unknown ? null : SPACING,
    orientation: unknown ? null : "RAS",
    intensity_range: [-1013, 447],
    intensity_verdict: "hu",
    is_hu: true,
    series: name.includes("series") ? { number: 1, of: 3, id: "1.2.826.0.1.3680043.8.498.1021" } : null,
    warnings: unknown ? [{ code: "R-GEO-14", text: "the size of the voxels is not known, so that volumes in mL and distances cannot be given", fix: "send the field `spacing` with the millimeters of a voxel, i,j,k" }] : [],
    bytes: 2_400_000,
    sha256: createHash("sha256").update(name).digest("hex"),
    created: now,
    expires: now + 3600,
  };
}

async function segment(bytes, request, response) {
  const { model, volume, prompts } = JSON.parse(bytes.toString());
  const known = models.find(({ id }) => id === model);
  const kept = volumes.get(volume);
  if (!known) throw new Refusal(404, "R-SRV-05", "no such model");
  if (!kept) throw new Refusal(404, "R-SRV-04", "no such volume");
  const [prompt] = prompts;
  const words = (prompt.question ?? prompt.text ?? prompt.organ ?? "").toLowerCase();
  if (words.includes("busy")) throw new Refusal(429, "R-SRV-09", "the queue is full");
  let open = true;
  request.on("close", () => (open = false));
  response.on("close", () => (open = false));
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  const send = (event, data) => open && response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  send("queued", { position: words.includes("wait") ? 3 : 0 });
  if (words.includes("wait")) await pause(60_000);
  const speaks = known.capabilities.outputs.includes("text");
  const windows = words.includes("slow") ? 18 : 3;
  for (let n = 1; n <= windows && open; n += 1) {
    send("stage", { stage: "encoding", prompt: 0, window: [n, windows] });
    await pause(words.includes("slow") ? 400 : 60);
  }
  if (words.includes("fail")) {
    send("error", { error: { code: "R-CUDA-07", message: "the device ran out of memory while the mask was drawn", fix: "ask again, or serve with a smaller data type", request_id: "req_mock" } });
    return response.end();
  }
  const result = answer(known, kept, prompt, words);
  if (speaks) {
    send("stage", { stage: "reading", prompt: 0, window: null });
    await pause(150);
    send("stage", { stage: "answering", prompt: 0, window: null });
    for (const word of result.answers[0].text.split(/(?<= )/)) {
      if (!open) return;
      send("text", { prompt: 0, text: word });
      await pause(words.includes("slow") ? 500 : 70);
    }
  }
  send("stage", { stage: "drawing", prompt: 0, window: null });
  await pause(words.includes("slow") ? 60_000 : 200);
  send("result", result);
  response.end();
}

function answer(model, volume, prompt, words) {
  const id = `res_${randomBytes(16).toString("hex")}`;
  const named = organsIn(words, prompt);
  const none = words.includes("nothing") || words.includes("empty") || named.length === 0;
  const speaks = model.capabilities.outputs.includes("text");
  const masks = none ? [] : named.map((n, index) => maskOf(n, index, prompt, volume));
  const labels = new Uint8Array(phantom.labels.length);
  for (const { label, organ, grown } of masks) {
    for (let i = 0; i < labels.length; i += 1) if (phantom.labels[i] === organ || (grown && near(i, organ))) labels[i] = label;
  }
  for (const mask of masks) mask.info.voxels = labels.reduce((sum, l) => sum + (l === mask.label ? 1 : 0), 0);
  const infos = masks.map(({ info }) => ({ ...info, volume_ml: volume.spacing_mm ? (info.voxels * SPACING[0] * SPACING[1] * SPACING[2]) / 1000 : null }));
  const text = none ? "I do not see a fracture in this image." : `It is the ${named.map((n) => ORGANS[n - 1].name).join(", the ")}, [SEG].`;
  const status = words.includes("empty") ? "empty_mask" : none ? "not_found" : "found";
  const files = ["answer.txt", "report.json", ...(none ? [] : ["mask.nii.gz", "mask.seg.nrrd", "labels.json", "preview.png"])];
  const result = {
    id,
    object: "result",
    model: model.id,
    volume: volume.id,
    answers: [
      {
        prompt: prompt.question ?? prompt.text ?? prompt.organ ?? prompt.name ?? "",
        text: speaks ? text : "",
        status,
        finish_reason: speaks ? "stop" : null,
        labels: infos.map(({ label }) => label),
        suggestions: none ? ["Please segment the liver.", "Where is the spleen in this image? Please output the segmentation mask."] : [],
      },
    ],
    masks: infos,
    warnings: /\ball\b/.test(words) ? [{ code: "R-OUT-03", text: "the masks were cleaned of 12 loose voxels", fix: null }] : [],
    timings_ms: { encode: 812, answer: 1430, draw: 655, total: 2897 },
    files,
    expires: volume.expires,
  };
  results.set(id, { result, labels: zipped(nifti(labels, 2)), masks });
  return result;
}

/** Voxels two to the left of an organ too, for masks that two questions share. */
function near(index, organ) {
  return phantom.labels[index - 3] === organ || phantom.labels[index + 3] === organ || phantom.labels[index + SHAPE[0] * 3] === organ;
}

function organsIn(words, prompt) {
  if (prompt.points ?? prompt.box) return [organAt(prompt)];
  if (/\ball\b/.test(words)) return ORGANS.map((_, n) => n + 1);
  const found = ORGANS.map((organ, n) => [organ.name, n + 1]).filter(([name]) => words.includes(name) || words.includes(name.split(" ").reverse().join(" ")));
  if (found.length > 0) return found.map(([, n]) => n);
  const reasons = { bile: 1, liver: 1, platelets: 2, artery: 5, overlap: 1, slow: 1 };
  return Object.entries(reasons).flatMap(([word, n]) => (words.includes(word) ? [n] : []));
}

function organAt({ points, box }) {
  const [i, j, k] = points?.find(({ positive }) => positive)?.voxel ?? box[0].map((a, axis) => Math.round((a + box[1][axis]) / 2));
  return phantom.labels[i + SHAPE[0] * j + SHAPE[0] * SHAPE[1] * k] || 1;
}

function maskOf(organ, index, prompt) {
  const { name, color, at } = ORGANS[organ - 1];
  const label = index + 1;
  const centroid = at.map((mm, axis) => Math.min(SHAPE[axis] - 1, Math.max(0, Math.round(mm / SPACING[axis] + SHAPE[axis] / 2))));
  const grown = (prompt.question ?? "").toLowerCase().includes("overlap") || (prompt.points?.length ?? 0) % 2 === 0;
  return {
    label,
    organ,
    grown: grown && (prompt.points !== undefined || (prompt.question ?? "").toLowerCase().includes("overlap")),
    info: {
      label,
      name: prompt.name ?? name,
      color: prompt.question?.toLowerCase().includes("overlap") ? [204, 121, 167] : color,
      voxels: 0,
      volume_ml: null,
      mean_hu: ORGANS[organ - 1].hu,
      centroid_mm: at,
      centroid_voxel: centroid,
      bbox: null,
      components: name === "aorta" ? 2 : 1,
      touches_border: name === "aorta",
      refines: null,
      file: "mask.nii.gz",
    },
  };
}

function resultFile([, , id, , name], response) {
  const kept = results.get(id.replace(/\.zip$/, ""));
  if (!kept) throw new Refusal(404, "R-SRV-04", "no such result");
  if (id.endsWith(".zip")) return file(response, Buffer.from("PK\x05\x06" + "\0".repeat(18), "latin1"), "application/zip");
  if (!name) return json(response, 200, kept.result);
  if (name === "mask.nii.gz") return file(response, kept.labels, "application/gzip");
  if (name === "preview.png") return file(response, sliceOf(new URLSearchParams({ axis: "axial", index: "58" })), "image/png");
  if (name === "report.json") return json(response, 200, { answers: kept.result.answers, masks: kept.result.masks });
  file(response, Buffer.from(kept.result.answers[0].text), "text/plain");
}

function sliceOf(query) {
  const level = Number(query.get("level") ?? 40);
  const width = Number(query.get("width") ?? 400);
  const kept = results.get(query.get("result"));
  const masks = kept?.masks.map(({ organ, info: { color } }) => [organ, color]) ?? [];
  return slice({ shape: SHAPE, ...phantom }, query.get("axis"), Number(query.get("index")), level - width / 2, level + width / 2, masks);
}

function page(pathname, response) {
  const path = join(options.dist, normalize(pathname === "/" ? "index.html" : pathname));
  if (!path.startsWith(options.dist) || !existsSync(path)) throw new Refusal(404, "R-SRV-04", "no such page");
  const headers = { "content-type": TYPES[extname(path)] ?? "application/octet-stream", "content-security-policy": CSP, "cache-control": "no-store" };
  response.writeHead(200, headers).end(readFileSync(path));
}

function file(response, bytes, type) {
  response.writeHead(200, { "content-type": type, "content-length": bytes.length }).end(bytes);
}

function json(response, status, value, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", "x-request-id": "req_mock", ...headers }).end(JSON.stringify(value));
}

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function nameIn(bytes) {
  const name = /filename="([^"]*)"/.exec(bytes.subarray(0, 4096).toString("latin1"))?.[1];
  return name?.split("/")[0] ?? "scan";
}

function fieldsIn(bytes) {
  return bytes.subarray(0, 4096).toString("latin1");
}
