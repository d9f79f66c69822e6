// Visits that work with every server that serves the demo model.

import { readFile } from "node:fs/promises";
import { launch, pixels } from "./browser.mjs";
import { ask, openFile, openPhantom, settled, shown, swatch, Tour } from "./tour.mjs";

export const VISITS = [
  ["a visitor sees what can be dropped", empty],
  ["the demo phantom is open in one click", phantom],
  ["an uploaded scan is asked about, and its mask is seen and saved", uploaded],
  ["a visit goes by keyboard alone", keyboard],
  ["nothing of the scan stays in the browser or in links", nothingKept],
  ["a browser without WebGL sees slices that the server draws", withoutWebgl],
];

async function empty(tour) {
  const page = await tour.visit();
  await page.getByRole("heading", { name: "Drop a CT here" }).waitFor();
  await page.getByLabel("Model").waitFor();
  await tour.look(page, "empty");
  await page.context().close();
}

async function phantom(tour) {
  const page = await tour.visit();
  await openPhantom(page);
  await settled(page);
  tour.check((await pixels(page, page.locator('.viewer'), [128, 128, 128], 60)) > 5000, "the scan is drawn in shades of gray");
  await tour.look(page, "ready");
  await page.context().close();
}

async function uploaded(tour, { question, mask }) {
  const page = await tour.visit();
  const scan = await phantomFile(tour.base);
  await openFile(page, "patient_0042.nii.gz", scan);
  await shown(page);
  const turn = await ask(page, question);
  const row = turn.locator(".mask").first();
  await row.waitFor();
  await settled(page);
  const color = await swatch(row);
  tour.check((await pixels(page, page.locator('[data-pane="axial"]'), color, 24)) > 100, `the outline of the mask has its color, ${color}`);
  await page.keyboard.press("Escape");
  await page.locator(".wordmark").click();
  await page.keyboard.press("m");
  await settled(page);
  tour.check((await pixels(page, page.locator('[data-pane="axial"]'), color, 8)) < 60, "a hidden mask is not drawn");
  await page.keyboard.press("m");
  await tour.look(page, "answered");
  const saved = await download(page, turn.getByRole("button", { name: "Mask", exact: true }));
  tour.check(saved.name === "mask.nii.gz", `the mask is saved as mask.nii.gz, not ${saved.name}`);
  tour.check(saved.bytes[0] === 0x1f && saved.bytes[1] === 0x8b, "the mask is a gzip file");
  if (mask) tour.check(saved.bytes.equals(await readFile(mask)), `the saved mask equals ${mask} byte for byte`);
  const zip = await download(page, turn.getByRole("button", { name: "Zip" }));
  tour.check(zip.bytes.subarray(0, 2).toString() === "PK", "everything is saved as a zip archive");
  await page.context().close();
}

async function keyboard(tour, { question }) {
  const page = await tour.visit();
  await page.getByRole("button", { name: "Try it on the demo phantom" }).waitFor();
  const reached = await tabTo(page, "Try it on the demo phantom");
  tour.check(reached, "Tab reaches the demo phantom");
  await page.keyboard.press("Enter");
  await shown(page);
  await page.keyboard.press("/");
  await page.keyboard.type(question);
  await page.keyboard.press("Enter");
  await page.locator(".mask").first().waitFor();
  await page.keyboard.press("Escape");
  const axial = page.getByRole("slider", { name: "Axial slice" });
  const before = Number(await axial.getAttribute("aria-valuenow"));
  await page.keyboard.press("ArrowUp");
  await page.waitForFunction((n) => Number(document.querySelector('[data-plane="axial"]').ariaValueNow) !== n, before);
  tour.check(Math.abs(Number(await axial.getAttribute("aria-valuenow")) - before) === 1, "an arrow goes one slice on");
  // Presets are in Hounsfield units; a phantom may have none.
  if (await page.getByRole("button", { name: "Lung" }).isVisible()) {
    await page.keyboard.press("w");
    await page.getByRole("button", { name: "Lung", pressed: true }).waitFor();
  }
  await page.keyboard.press("m");
  await page.getByRole("button", { name: "Show masks", pressed: false }).waitFor();
  await page.keyboard.press("m");
  await page.keyboard.press("1");
  await page.keyboard.press("?");
  await page.getByRole("heading", { name: "Keys and help" }).waitFor();
  await tour.look(page, "help");
  await page.keyboard.press("Escape");
  await page.getByRole("heading", { name: "Keys and help" }).waitFor({ state: "detached" });
  const spoken = await page.getByRole("status").textContent();
  tour.check(spoken !== "", "stages and answers are announced");
  await page.context().close();
}

async function nothingKept(tour, { question }) {
  const page = await tour.visit();
  await openPhantom(page);
  await (await ask(page, question)).locator(".downloads").waitFor();
  tour.check(page.url() === tour.base, `the address stays ${tour.base}, not ${page.url()}`);
  const kept = await page.evaluate(() => [Object.keys(localStorage), Object.keys(sessionStorage)]);
  tour.check(kept.flat().every((key) => key === "r1seg.theme"), `storage holds the theme at most, not ${kept.flat()}`);
  await page.getByRole("button", { name: /Forget/ }).click();
  await page.getByRole("heading", { name: "Forget this scan?" }).waitFor();
  await tour.look(page, "forget");
  await page.getByRole("button", { name: "Forget", exact: true }).click();
  await page.getByRole("heading", { name: "Drop a CT here" }).waitFor();
  await page.context().close();
}

async function withoutWebgl(tour, { question }) {
  const browser = await launch({ webgl: false });
  const bare = new Tour(browser, tour.base, tour.shots);
  bare.problems = tour.problems;
  const page = await bare.visit();
  await page.getByRole("button", { name: "Try it on the demo phantom" }).click();
  await page.getByRole("img", { name: /Axial slice/ }).waitFor();
  const turn = await ask(page, question);
  await turn.locator(".mask").first().waitFor();
  await page.waitForLoadState("networkidle");
  const color = await swatch(turn.locator(".mask").first());
  await page.waitForTimeout(800);
  await bare.look(page, "no-webgl");
  const before = await page.getByRole("slider", { name: "Axial slice" }).inputValue();
  await page.getByRole("slider", { name: "Axial slice" }).press("ArrowRight");
  tour.check((await page.getByRole("slider", { name: "Axial slice" }).inputValue()) !== before, "slices change");
  tour.check(color.length === 3, "the mask is listed with its color");
  await browser.close();
  tour.seen += bare.seen;
}

/** The phantom as a file, by the API that the page uses. */
async function phantomFile(base) {
  const headers = { "content-type": "application/json" };
  const volume = await (await fetch(new URL("v1/volumes/phantom", base), { method: "POST", headers, body: '{"seed":7}' })).json();
  const response = await fetch(new URL(`v1/volumes/${volume.id}/volume.nii.gz`, base));
  return Buffer.from(await response.arrayBuffer());
}

async function download(page, button) {
  const [event] = await Promise.all([page.waitForEvent("download"), button.click()]);
  return { name: event.suggestedFilename(), bytes: await readFile(await event.path()) };
}

async function tabTo(page, name) {
  for (let n = 0; n < 20; n += 1) {
    await page.keyboard.press("Tab");
    if ((await page.evaluate(() => document.activeElement?.textContent?.trim())) === name) return true;
  }
  return false;
}
