// What a visit is made of: opening the page, a scan, asking; and the record of what was seen.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { axe } from "./browser.mjs";

export class Tour {
  constructor(browser, base, shots) {
    Object.assign(this, { browser, base, shots, problems: [], seen: 0 });
    mkdirSync(shots, { recursive: true });
  }

  /** A new tab in a context of its own, watched for errors and for requests to elsewhere. */
  async visit({ width = 1280, height = 800, init, ...options } = {}) {
    const context = await this.browser.newContext({ viewport: { width, height }, colorScheme: "dark", acceptDownloads: true, ...options });
    if (init) await context.addInitScript(init);
    const page = await context.newPage();
    this.page = page;
    page.setDefaultTimeout(180_000);
    page.on("pageerror", (error) => this.problem(`error on the page: ${error.message}`));
    page.on("console", (message) => {
      // Chromium reports every answer with an error status; those are states of the page here.
      if (message.type() === "error" && !/Failed to load resource/.test(message.text())) this.problem(`console: ${message.text()}`);
    });
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (!["data:", "blob:"].includes(url.protocol) && url.origin !== new URL(this.base).origin) this.problem(`a request to ${url.origin}`);
    });
    await page.goto(this.base);
    return page;
  }

  problem(text) {
    console.error(`    FAILED ${text}`);
    this.problems.push(text);
  }

  /** A picture of where a visit broke off. */
  async broke(name) {
    await this.page?.screenshot({ path: join(this.shots, `broken-${name.replace(/\W+/g, "-")}.png`) }).catch(() => {});
    await this.page?.context().close().catch(() => {});
  }

  check(condition, text) {
    if (!condition) this.problem(text);
  }

  /** A picture of a state in both themes, and what axe-core finds in it. */
  async look(page, name) {
    const theme = await page.evaluate(() => document.documentElement.dataset.theme);
    for (const next of ["dark", "light"]) {
      await page.evaluate((value) => (document.documentElement.dataset.theme = value), next);
      // Transitions of color would be measured half way.
      await page.waitForTimeout(150);
      await page.screenshot({ path: join(this.shots, `${name}-${next}.png`) });
      for (const finding of await axe(page)) this.problem(`axe in "${name}", ${next}: ${finding}`);
    }
    await page.evaluate((value) => (document.documentElement.dataset.theme = value), theme);
    this.seen += 1;
    console.log(`    seen: ${name}`);
  }
}

export async function openPhantom(page) {
  await page.getByRole("button", { name: "Try it on the demo phantom" }).click();
  await shown(page);
}

export async function openFile(page, name, buffer) {
  await page.getByLabel("Scan files").setInputFiles({ name, mimeType: "application/octet-stream", buffer });
}

export async function shown(page) {
  await page.locator('[data-voxels="shown"]').waitFor();
  await page.locator(".readout b").waitFor();
}

export async function ask(page, text) {
  const before = await page.locator(".turn").count();
  await page.locator("#ask").fill(text);
  await page.locator("#ask").press("Enter");
  return page.locator(".turn").nth(before);
}

export async function chooseModel(page, id) {
  await page.getByLabel("Model").selectOption(id);
}

/** The color of the swatch of a mask, as three numbers. */
export async function swatch(row) {
  const hex = await row.locator(".swatch").inputValue();
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}

/** Where the image of a pane lies on screen. */
export async function paneBox(page, plane) {
  return page.locator(`[data-pane="${plane}"]`).boundingBox();
}

/** Waits until the overlay has been drawn again. */
export async function settled(page) {
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await page.waitForTimeout(250);
}
