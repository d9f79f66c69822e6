// States that only a server which plays along can show.

import { pixels } from "./browser.mjs";
import { ask, chooseModel, openFile, openPhantom, paneBox, settled, shown } from "./tour.mjs";

export const STATES = [
  ["an upload shows its bytes and can be canceled", uploading],
  ["one of several series is chosen", series],
  ["files that do not open say why and what helps", refused],
  ["a scan without spacing says so, and takes one", spacing],
  ["an answer streams with its stages, and can be canceled", answering],
  ["an answer without a mask says why, and offers a phrasing", withoutMask],
  ["several masks are listed, hidden and found", several],
  ["points and a box ask again with each click, and are taken back", points],
  ["distances are measured", measured],
  ["a model with a list of structures offers it", classes],
  ["a full queue and a failure say what to do", trouble],
  ["one pane, neurological, lung window", panes],
  ["small screens hold everything", small],
];

const bytes = Buffer.alloc(64);

async function uploading(tour) {
  const page = await tour.visit();
  const network = await page.context().newCDPSession(page);
  await network.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 600_000 });
  await page.getByLabel("Model").waitFor();
  await openFile(page, "ct_0042.nii.gz", Buffer.alloc(12_000_000, 1));
  await page.getByText(/ of 12 MB/).waitFor();
  await page.waitForFunction(() => Number(document.querySelector("[role=progressbar]")?.ariaValueNow) > 5);
  await tour.look(page, "uploading");
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("heading", { name: "Drop a CT here" }).waitFor();
  await page.context().close();
}

async function series(tour) {
  const page = await tour.visit();
  await page.getByLabel("Model").waitFor();
  await openFile(page, "series.dcm", bytes);
  await page.getByText("These files hold several series").waitFor();
  await tour.look(page, "series");
  await page.getByRole("button", { name: /512 × 512 × 301/ }).click();
  await shown(page);
  tour.check(await page.getByText("series 1 of 3").isVisible(), "the header names the series");
  await page.context().close();
}

async function refused(tour) {
  const page = await tour.visit();
  await page.getByLabel("Model").waitFor();
  await openFile(page, "broken.bin", bytes);
  await page.getByText("This scan cannot be opened").waitFor();
  await tour.look(page, "refused");
  await openFile(page, "frames.nii", bytes);
  await page.getByLabel("Frame, counted from 0").fill("3");
  await tour.look(page, "frames");
  await page.getByRole("button", { name: "Open this frame" }).click();
  await shown(page);
  await page.context().close();
}

async function spacing(tour) {
  const page = await tour.visit();
  await page.getByLabel("Model").waitFor();
  await openFile(page, "nospacing.npy", bytes);
  await shown(page);
  await settled(page);
  const turn = await ask(page, "Please segment the liver.");
  await turn.getByText(/volume unknown/).waitFor();
  await page.getByRole("button", { name: "Give the spacing" }).click();
  await tour.look(page, "warnings");
  for (const axis of ["i", "j", "k"]) await page.getByLabel(`Spacing along ${axis} in mm`).fill("2.5");
  await page.getByRole("button", { name: "Use this spacing" }).click();
  await page.getByText("2.5 × 2.5 × 3 mm").waitFor();
  await page.context().close();
}

async function answering(tour) {
  const page = await tour.visit();
  await openPhantom(page);
  const turn = await ask(page, "Slow: which organ makes bile?");
  await turn.getByText(/part [2-9] of 18/).waitFor();
  await tour.look(page, "encoding");
  await turn.locator(".streaming").waitFor();
  await page.waitForTimeout(1200);
  await tour.look(page, "answering");
  await turn.getByRole("button", { name: "Cancel" }).click();
  await turn.getByText("Canceled.").waitFor();
  await page.context().close();
}

async function withoutMask(tour) {
  const page = await tour.visit();
  await openPhantom(page);
  await (await ask(page, "Is there a fracture? nothing")).getByText("No mask.").waitFor();
  const turn = await ask(page, "Where is the gallbladder? empty");
  await turn.getByText(/no voxel/).waitFor();
  await tour.look(page, "no-mask");
  await turn.getByRole("button", { name: "Please segment the liver." }).click();
  await page.locator(".turn").nth(2).locator(".mask").waitFor();
  await page.context().close();
}

async function several(tour) {
  const page = await tour.visit();
  await openPhantom(page);
  const turn = await ask(page, "Please segment all organs.");
  await turn.locator(".mask").nth(4).waitFor();
  await (await ask(page, "Segment the liver again, so that they overlap.")).locator(".mask").waitFor();
  await turn.getByRole("button", { name: /^left kidney/ }).click();
  await settled(page);
  tour.check((await pixels(page, page.locator('[data-pane="axial"]'), [0, 158, 115], 24)) > 40, "the view goes to a mask that is clicked");
  await turn.getByRole("button", { name: "Hide right kidney" }).click();
  await page.getByLabel("Opacity of the fill").fill("45");
  await settled(page);
  await tour.look(page, "several");
  await page.context().close();
}

async function points(tour) {
  const page = await tour.visit();
  await openPhantom(page);
  await chooseModel(page, "SegVol");
  await page.keyboard.press("Escape");
  await page.locator(".wordmark").click();
  await page.keyboard.press("p");
  const box = await paneBox(page, "axial");
  await page.mouse.click(box.x + 0.36 * box.width, box.y + 0.46 * box.height);
  const turn = page.locator(".turn").first();
  await turn.locator(".mask").waitFor();
  await page.keyboard.press("n");
  await page.mouse.click(box.x + 0.5 * box.width, box.y + 0.62 * box.height);
  await page.getByText("1 inside, 1 outside").waitFor();
  await turn.locator(".answered:not(.stale) .mask").waitFor();
  await settled(page);
  await tour.look(page, "points");
  tour.check((await pixels(page, page.locator('[data-pane="axial"]'), [47, 191, 113], 12)) > 20, "the point is drawn");
  await page.keyboard.press("z");
  await page.getByText("1 inside", { exact: true }).waitFor();
  await page.keyboard.press("b");
  await page.mouse.move(box.x + 0.2 * box.width, box.y + 0.3 * box.height);
  await page.mouse.down();
  await page.mouse.move(box.x + 0.5 * box.width, box.y + 0.66 * box.height, { steps: 4 });
  await page.mouse.up();
  await page.getByText("1 inside, a box").waitFor();
  await turn.locator(".answered:not(.stale) .mask").waitFor();
  await settled(page);
  await tour.look(page, "box");
  await page.keyboard.press("z");
  await page.keyboard.press("z");
  await page.locator(".turn").waitFor({ state: "detached" });
  // By keyboard: a point at the crosshair.
  await page.keyboard.press("p");
  await page.getByRole("slider", { name: "Coronal slice" }).focus();
  await page.keyboard.press("Shift+ArrowLeft");
  await page.keyboard.press("Enter");
  await page.getByText("1 inside", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Keep" }).click();
  await page.context().close();
}

async function measured(tour) {
  const page = await tour.visit();
  await openPhantom(page);
  await page.getByRole("button", { name: "Measure" }).click();
  const box = await paneBox(page, "axial");
  await page.mouse.move(box.x + 0.2 * box.width, box.y + 0.5 * box.height);
  await page.mouse.down();
  await page.mouse.move(box.x + 0.6 * box.width, box.y + 0.4 * box.height, { steps: 4 });
  await page.mouse.up();
  await settled(page);
  tour.check((await pixels(page, page.locator('[data-pane="axial"]'), [255, 255, 255], 4)) > 200, "the line is drawn");
  await page.screenshot({ path: `${tour.shots}/measure-dark.png` });
  await page.context().close();
}

async function classes(tour) {
  const page = await tour.visit();
  await openPhantom(page);
  await chooseModel(page, "VISTA3D");
  await page.getByRole("searchbox").fill("kidney");
  await page.getByRole("button", { name: "kidney left" }).click();
  await page.locator(".turn .mask").first().waitFor();
  await page.getByRole("searchbox").fill("");
  await settled(page);
  await tour.look(page, "classes");
  await page.context().close();
}

async function trouble(tour) {
  const page = await tour.visit();
  await openPhantom(page);
  await (await ask(page, "Segment the spleen; busy")).getByText("The queue is full").waitFor();
  await (await ask(page, "Segment the spleen; fail")).getByText("This could not be answered").waitFor();
  await ask(page, "Segment the spleen; wait");
  await page.getByText("3 before you in the queue").waitFor();
  await tour.look(page, "trouble");
  await page.context().close();
}

async function panes(tour) {
  const page = await tour.visit();
  await openPhantom(page);
  await (await ask(page, "Please segment the liver and the aorta.")).locator(".mask").first().waitFor();
  await page.getByRole("button", { name: "Lung" }).click();
  await page.getByRole("button", { name: /radiological/ }).click();
  await page.getByRole("button", { name: "Read the coronal plane" }).click();
  await settled(page);
  await tour.look(page, "coronal-neurological");
  await page.getByRole("button", { name: "Only 3D" }).click();
  await settled(page);
  await tour.look(page, "only-3d");
  await page.context().close();
}

async function small(tour) {
  for (const [name, width, height] of [["small", 1024, 700], ["tablet", 820, 1180]]) {
    const page = await tour.visit({ width, height });
    await openPhantom(page);
    await chooseModel(page, "SegVol");
    await (await ask(page, "left kidney")).locator(".mask").first().waitFor();
    await settled(page);
    await tour.look(page, name);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    tour.check(!wide, `nothing is cut off at ${width}x${height}`);
    await page.context().close();
  }
}
