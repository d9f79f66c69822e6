// Mock servers of this run, and the states that need one to go away or to ask for a key.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ask, openPhantom } from "./tour.mjs";

const MOCK = join(dirname(fileURLToPath(import.meta.url)), "..", "mock-server.mjs");

export async function startMock(...options) {
  const child = spawn(process.execPath, [MOCK, "--port", "0", ...options], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(child.stdout, "data");
  return { base: line.toString().trim(), stop: () => child.kill() };
}

export async function goneServer(tour, options) {
  const server = await startMock(...options);
  const base = tour.base;
  tour.base = server.base;
  const page = await tour.visit();
  await openPhantom(page);
  await (await ask(page, "Please segment the liver.")).locator(".mask").waitFor();
  server.stop();
  await (await ask(page, "And the spleen?")).getByText("The server does not answer").waitFor();
  await tour.look(page, "gone");
  await page.context().close();
  tour.base = base;
}

export async function keyServer(tour, options) {
  const server = await startMock("--key", "correct-horse", ...options);
  const base = tour.base;
  tour.base = server.base;
  const page = await tour.visit();
  const key = page.getByLabel("Key", { exact: true });
  await key.fill("wrong");
  await key.press("Enter");
  await page.getByText("The server refused this key.").waitFor();
  await tour.look(page, "key");
  await key.fill("correct-horse");
  await key.press("Enter");
  await openPhantom(page);
  tour.check((await page.evaluate(() => localStorage.length)) === 0, "the key is not kept beyond the tab");
  tour.check(!page.url().includes("horse"), "the key is not in the address");
  await page.context().close();
  server.stop();
  tour.base = base;
}
