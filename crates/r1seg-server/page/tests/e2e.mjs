// Goes through the page in a browser.
//
//   node tests/e2e.mjs                        against mock servers, every state
//   node tests/e2e.mjs --base URL             against a running server with the demo model
//     --question TEXT                         what to ask it (a question whose answer has a mask)
//     --mask FILE                             what the saved mask must equal, byte for byte
//   --dist DIR    the built page for the mock; --shots DIR    where pictures go; --only TEXT    visits whose name matches

import { join } from "node:path";
import { parseArgs } from "node:util";
import { VISITS } from "./e2e/any.mjs";
import { chromiumPath, launch } from "./e2e/browser.mjs";
import { goneServer, keyServer, startMock } from "./e2e/servers.mjs";
import { STATES } from "./e2e/states.mjs";
import { Tour } from "./e2e/tour.mjs";

const { values: options } = parseArgs({
  options: {
    base: { type: "string" },
    question: { type: "string", default: "Can you segment the liver in this image?" },
    mask: { type: "string" },
    dist: { type: "string" },
    shots: { type: "string", default: join(import.meta.dirname, "..", ".e2e", "shots") },
    only: { type: "string" },
  },
});

if (!chromiumPath()) {
  console.error("no Chromium: install Debian's (apt-get install chromium), or name one in CHROMIUM");
  process.exit(2);
}

const mockOptions = ["--fast", ...(options.dist ? ["--dist", options.dist] : [])];
const slowOptions = options.dist ? ["--dist", options.dist] : [];
const mock = options.base ? null : await startMock(...slowOptions);
const browser = await launch();
const tour = new Tour(browser, options.base ?? mock.base, options.shots);
const visits = options.base
  ? VISITS
  : [
      ...VISITS,
      ...STATES,
      ["a server that went away leaves everything on the page", (t) => goneServer(t, mockOptions)],
      ["a wrong key is refused, and the right one opens", (t) => keyServer(t, mockOptions)],
    ];

for (const [name, visit] of visits.filter(([name]) => !options.only || new RegExp(options.only).test(name))) {
  console.log(`  ${name}`);
  try {
    await visit(tour, options);
  } catch (error) {
    tour.problem(`"${name}" broke off: ${error.message}`);
    await tour.broke(name);
  }
}
await browser.close();
mock?.stop();
console.log(`${tour.seen} states seen in both themes (${options.shots}), ${tour.problems.length} problems`);
for (const problem of new Set(tour.problems)) console.log(`  ${problem}`);
process.exit(tour.problems.length > 0 ? 1 : 0);
