// Requests to the server. The key lives in this tab's memory and sessionStorage, and in no URL.

import type { ModelInfo, Result, SegmentRequest, ServerInfo, Volume } from "../types";
import { ApiError, gone, problemOf } from "./errors";
import { readEvents, type ServerEvent } from "./sse";

const KEY = "r1seg.key";

export class Client {
  private key: string | null = sessionStorage.getItem(KEY);

  hasKey(): boolean {
    return this.key !== null;
  }

  setKey(key: string | null): void {
    this.key = key;
    if (key === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, key);
  }

  headers(): Record<string, string> {
    return this.key === null ? {} : { Authorization: `Bearer ${this.key}` };
  }

  info(): Promise<ServerInfo> {
    return this.json("v1/info");
  }

  async models(): Promise<ModelInfo[]> {
    return (await this.json<{ data: ModelInfo[] }>("v1/models")).data;
  }

  phantom(seed: number): Promise<Volume> {
    return this.json("v1/volumes/phantom", this.post({ seed }));
  }

  async forget(volume: string): Promise<void> {
    await this.request(`v1/volumes/${volume}`, { method: "DELETE" });
  }

  async blob(path: string, signal?: AbortSignal): Promise<Blob> {
    return (await this.request(path, signal ? { signal } : {})).blob();
  }

  /** Bytes with their progress; `total` is `null` where the server does not say. */
  async bytes(path: string, onProgress: (received: number, total: number | null) => void, signal: AbortSignal): Promise<ArrayBuffer> {
    const response = await this.request(path, { signal });
    const length = Number.parseInt(response.headers.get("content-length") ?? "", 10);
    const total = Number.isFinite(length) ? length : null;
    if (!response.body) return response.arrayBuffer();
    let received = 0;
    const counted = response.body.pipeThrough(
      new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          received += chunk.byteLength;
          onProgress(received, total);
          controller.enqueue(chunk);
        },
      }),
    );
    return new Response(counted).arrayBuffer();
  }

  async *segment(request: SegmentRequest, signal: AbortSignal): AsyncGenerator<ServerEvent> {
    const response = await this.request("v1/segment", { ...this.post(request), signal });
    if (!response.body) throw new ApiError(gone());
    if (response.headers.get("content-type")?.includes("json")) {
      const result = (await response.json()) as Result;
      yield { event: "result", data: JSON.stringify(result) };
      return;
    }
    yield* readEvents(response.body);
  }

  private post(body: unknown): RequestInit {
    return { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  }

  private async json<T>(path: string, init: RequestInit = {}): Promise<T> {
    return (await (await this.request(path, init)).json()) as T;
  }

  private async request(path: string, init: RequestInit): Promise<Response> {
    const response = await fetch(path, {
      ...init,
      headers: { ...(init.headers as Record<string, string> | undefined), ...this.headers() },
      cache: "no-store",
    });
    if (!response.ok) {
      throw new ApiError(problemOf(response.status, await response.text(), response.headers.get("retry-after")));
    }
    return response;
  }
}

export const client = new Client();
