// Debian's Chromium, driven by playwright-core; WebGL2 in software, so that no GPU is needed.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--use-angle=swiftshader",
  "--enable-unsafe-swiftshader",
  "--ignore-gpu-blocklist",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
  "--disable-quic",
];

export function chromiumPath() {
  const places = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
  return places.find((path) => path && existsSync(path));
}

export function launch({ webgl = true } = {}) {
  return chromium.launch({ executablePath: chromiumPath(), args: webgl ? FLAGS : [...FLAGS.filter((flag) => !/swiftshader|gpu/.test(flag)), "--disable-3d-apis"] });
}

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Serious and critical findings of axe-core, as lines. */
export async function axe(page) {
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => (await globalThis.axe.run(document, { resultTypes: ["violations"] })).violations);
  return found
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(" ")}: ${node.any[0]?.message ?? node.failureSummary}`));
}

/** How many pixels of a picture of the page lie within `reach` of a color. */
export async function pixels(page, locator, [r, g, b], reach = 12) {
  const picture = (await locator.screenshot()).toString("base64");
  return page.evaluate(
    async ([data, color, near]) => {
      const image = new Image();
      image.src = `data:image/png;base64,${data}`;
      await image.decode();
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [image.width, image.height];
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      const { data: rgba } = context.getImageData(0, 0, image.width, image.height);
      let count = 0;
      for (let i = 0; i < rgba.length; i += 4) if (color.every((c, n) => Math.abs(rgba[i + n] - c) <= near)) count += 1;
      return count;
    },
    [picture, [r, g, b], reach],
  );
}
