// licenses.txt: the license of every package that is part of the built page.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, sep } from "node:path";
import type { Plugin } from "vite";

interface Manifest {
  name: string;
  version: string;
  license?: string;
}

export function licenses(root: string): Plugin {
  return {
    name: "licenses",
    generateBundle(_, bundle) {
      const folders = new Set<string>();
      for (const chunk of Object.values(bundle)) {
        if (chunk.type !== "chunk") continue;
        for (const id of chunk.moduleIds) {
          const folder = packageFolder(root, id.replace(/^\0+/, "").split("?")[0] ?? "");
          if (folder) folders.add(folder);
        }
      }
      const texts = [...folders].map((folder) => licenseOf(root, folder)).sort();
      const source = ["The page is a part of r1seg. These packages are built into it.", ...texts].join(`\n\n${"-".repeat(72)}\n\n`);
      this.emitFile({ type: "asset", fileName: "licenses.txt", source: `${source}\n` });
    },
  };
}

function packageFolder(root: string, id: string): string | null {
  const at = id.lastIndexOf(`${sep}node_modules${sep}`);
  if (at < 0) return null;
  const parts = id.slice(at + 14).split(sep);
  const name = parts[0]?.startsWith("@") ? parts.slice(0, 2).join(sep) : (parts[0] as string);
  const folder = join(id.slice(0, at), "node_modules", name);
  return existsSync(join(folder, "package.json")) ? folder : join(root, "node_modules", name);
}

/** The license as the package has it, or as its repository does where the package left it out. */
function licenseOf(root: string, folder: string): string {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;
  const file = readdirSync(folder).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
  const path = file ? join(folder, file) : join(root, "build", "texts", `${name.replace("/", "+")}.txt`);
  const text = readFileSync(path, "utf8").trim().replace(/\r\n/g, "\n");
  return `${name} ${version} (${license ?? "see below"})\n\n${text}`;
}
