// Files and folders that someone dropped or chose.

import type { UploadFile } from "../api/upload";

/** All files of a drop, folders opened; in a steady order. */
export async function droppedFiles(items: DataTransferItemList): Promise<UploadFile[]> {
  // Entries must be taken at once: the list is empty after the first wait.
  const entries = Array.from(items)
    .filter((item) => item.kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry(), file: item.getAsFile() }));
  const files: UploadFile[] = [];
  for (const { entry, file } of entries) {
    if (entry) await collect(entry, files);
    else if (file) files.push({ path: file.name, file });
  }
  return wanted(files);
}

export function chosenFiles(list: FileList): UploadFile[] {
  return wanted(Array.from(list).map((file) => ({ path: file.webkitRelativePath || file.name, file })));
}

/** Without what operating systems leave in folders. */
export function wanted(files: UploadFile[]): UploadFile[] {
  const hidden = /(^|\/)(\.[^/]*|__MACOSX|Thumbs\.db|desktop\.ini)(\/|$)/i;
  return files.filter(({ path }) => !hidden.test(path)).sort((a, b) => a.path.localeCompare(b.path, "en", { numeric: true }));
}

/** How a drop is named on screen: its file, or its folder and how many files it has. */
export function nameOf(files: readonly UploadFile[]): string {
  const [first] = files;
  if (!first) return "";
  if (files.length === 1) return first.path.split("/").pop() ?? first.path;
  const folder = first.path.includes("/") ? first.path.split("/")[0] : "";
  return `${folder ? `${folder}, ` : ""}${files.length} files`;
}

async function collect(entry: FileSystemEntry, into: UploadFile[]): Promise<void> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    into.push({ path: entry.fullPath.replace(/^\//, ""), file });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // A reader gives its entries in batches, and an empty batch at the end.
  for (;;) {
    const batch = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (batch.length === 0) return;
    for (const child of batch) await collect(child, into);
  }
}
