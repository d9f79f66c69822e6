import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";
import { licenses } from "./build/licenses";
import { sourceHashes } from "./build/source-hashes";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  base: "./",
  plugins: [licenses(here(".")), sourceHashes(here("."))],
  resolve: { alias: { zarrita: here("src/vendor/zarrita.ts") } },
  build: {
    outDir: process.env["PAGE_OUT_DIR"] ?? "dist",
    emptyOutDir: true,
    target: "es2022",
    // The content security policy allows no inline code.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 2500,
    rolldownOptions: {
      // The server lets browsers keep assets for good, for a name stands for its bytes.
      output: {
        entryFileNames: "assets/page-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
  test: { include: ["tests/unit/**/*.test.ts"] },
});
