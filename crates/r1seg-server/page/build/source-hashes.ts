// sources.sha256: what the page was built from, so that a test without node sees a stale build.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import type { Plugin } from "vite";

const SOURCES = ["src", "public", "build", "index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"];

export function sourceHashes(root: string): Plugin {
  return {
    name: "source-hashes",
    generateBundle() {
      const lines = SOURCES.flatMap((path) => filesOf(join(root, path)))
        .map((path) => relative(root, path).split(sep).join("/"))
        .sort()
        .map((path) => `${createHash("sha256").update(readFileSync(join(root, path))).digest("hex")}  ${path}`);
      this.emitFile({ type: "asset", fileName: "sources.sha256", source: `${lines.join("\n")}\n` });
    },
  };
}

function filesOf(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true }).flatMap((entry) => filesOf(join(path, entry.name)));
  } catch {
    // Not a folder.
    return [path];
  }
}
