// What the server's HTTP API speaks. Voxel indexes are (i, j, k) in file order; times are unix seconds.

export type Voxel = [number, number, number];

export interface ServerInfo {
  version: string;
  key_required: boolean;
  limits: { max_body_bytes: number; ttl_s: number; queue: number; timeout_s: number };
  demo: boolean;
  research_use_only: boolean;
}

export type PromptKind = "question" | "text" | "organ" | "points" | "box" | "mask";

export interface ModelInfo {
  id: string;
  family: string;
  device: string;
  dtype: string;
  capabilities: {
    prompts: PromptKind[];
    outputs: ("text" | "mask" | "boxes")[];
    modes: string[];
    /** What a model with a closed vocabulary knows, where the server lists it. */
    classes?: string[];
  };
  examples: string[];
  is_demo: boolean;
}

export interface Notice {
  code: string;
  text: string;
  fix: string | null;
}

export interface SeriesChoice {
  number: number;
  id: string;
  modality: string;
  slices: number;
  shape: Voxel | null;
  spacing_mm: [number, number, number] | null;
  is_localizer: boolean;
  /** Why it cannot be read. */
  problem: string | null;
}

export interface Volume {
  id: string;
  name: string;
  kind: string;
  shape: Voxel;
  spacing_mm: [number, number, number] | null;
  orientation: string | null;
  intensity_range: [number, number] | null;
  intensity_verdict: string;
  is_hu: boolean;
  series: { number: number; of: number; id: string } | null;
  warnings: Notice[];
  bytes: number;
  sha256: string | null;
  created: number;
  expires: number;
}

export interface PromptPoint {
  voxel: Voxel;
  positive: boolean;
}

export interface Prompt {
  question?: string;
  text?: string;
  organ?: string;
  points?: PromptPoint[];
  box?: [Voxel, Voxel];
  mask?: { result: string; label: number };
  name?: string;
}

export interface SegmentRequest {
  model: string;
  volume: string;
  prompts: Prompt[];
  stream: boolean;
  mode?: string | null;
  refine_with?: string | null;
}

export interface Answer {
  prompt: string;
  text: string;
  status: "found" | "empty_mask" | "not_found";
  finish_reason: "stop" | "length" | null;
  labels: number[];
  suggestions: string[];
}

export interface MaskInfo {
  label: number;
  name: string;
  color: [number, number, number];
  voxels: number;
  volume_ml: number | null;
  mean_hu: number | null;
  centroid_mm: [number, number, number] | null;
  centroid_voxel: Voxel | null;
  bbox: [Voxel, Voxel] | null;
  components: number;
  touches_border: boolean;
  refines: number | null;
  file: string;
}

export interface Result {
  id: string;
  model: string;
  volume: string;
  answers: Answer[];
  masks: MaskInfo[];
  warnings: Notice[];
  timings_ms: Record<string, number>;
  files: string[];
  expires: number;
}

export type Stage = "encoding" | "reading" | "answering" | "drawing" | "saving";

export interface ErrorBody {
  code: string;
  message: string;
  fix: string | null;
  request_id: string | null;
  series?: SeriesChoice[];
}
