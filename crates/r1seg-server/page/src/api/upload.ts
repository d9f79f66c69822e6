// The upload of a scan. XMLHttpRequest, for fetch does not tell how much has been sent.

import type { Volume } from "../types";
import { client } from "./client";
import { ApiError, gone, problemOf } from "./errors";

export interface UploadChoices {
  series?: string;
  frame?: string;
  spacing?: string;
}

export interface UploadFile {
  /** With its folders, where a folder was dropped. */
  path: string;
  file: File;
}

export function upload(files: UploadFile[], choices: UploadChoices, onSent: (bytes: number, total: number) => void, signal: AbortSignal): Promise<Volume> {
  const form = new FormData();
  for (const [field, value] of Object.entries(choices)) {
    if (value) form.append(field, value);
  }
  for (const { path, file } of files) form.append("file", file, path);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "v1/volumes");
    for (const [name, value] of Object.entries(client.headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onSent(event.loaded, event.total);
    request.onload = () => {
      if (request.status === 201 || request.status === 200) resolve(JSON.parse(request.responseText) as Volume);
      else reject(new ApiError(problemOf(request.status, request.responseText, request.getResponseHeader("retry-after"))));
    };
    request.onerror = () => reject(new ApiError(gone()));
    request.onabort = () => reject(new DOMException("canceled", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}
