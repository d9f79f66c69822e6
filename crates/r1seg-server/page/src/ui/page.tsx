// The whole page.

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { droppedFiles } from "../lib/drop";
import { app } from "../state/app";
import { connect } from "../state/session";
import { useStore } from "../state/store";
import { open } from "../state/volumes";
import { Dialogs } from "./dialogs";
import { Empty } from "./empty";
import { Header } from "./header";
import { Icon } from "./icon";
import { ServerSlices } from "./server-slices";
import { Side } from "./side";
import { Toolbar } from "./toolbar";
import { VolumeWarnings } from "./trouble";
import { Viewer } from "./viewer";

export function Page(): JSX.Element {
  const volume = useStore(app, (s) => s.volume !== null);
  const uploading = useStore(app, (s) => s.upload !== null || s.uploadProblem !== null);
  const webgl = useStore(app, (s) => s.webgl);
  const announcement = useStore(app, (s) => s.announcement);
  useEffect(listenForDrops, []);
  const room = volume && !uploading;
  return (
    <>
      <Header />
      <ConnectionBar />
      <main class="main">
        <section class="scan" aria-label="Scan">
          {room && <VolumeWarnings />}
          {webgl && <div class={room ? "stage-area" : "stage-area away"}>{<Viewer />}</div>}
          {!webgl && room && <ServerSlices />}
          {!room && <Empty />}
          {room && <Toolbar />}
        </section>
        <Side />
      </main>
      <footer class="footer">For research use only. Not a medical device.</footer>
      <Dialogs />
      <DropVeil />
      <div class="sr" role="status" aria-live="polite">
        {announcement}
      </div>
    </>
  );
}

function ConnectionBar(): JSX.Element | null {
  const connection = useStore(app, (s) => s.connection);
  if (connection !== "gone") return null;
  return (
    <div class="connection" role="alert">
      <Icon name="alert" />
      <span>
        <strong>The server does not answer.</strong> See that r1seg serve still runs. What is on this page stays.
      </span>
      <button class="button small" onClick={() => void connect()}>
        <Icon name="retry" /> Try again
      </button>
    </div>
  );
}

function DropVeil(): JSX.Element | null {
  const shown = useStore(app, (s) => s.dragging && s.volume !== null);
  return shown ? <div class="drop-veil">Drop to open this scan instead</div> : null;
}

/** Files may be dropped anywhere on the page. */
function listenForDrops(): () => void {
  const controller = new AbortController();
  const { signal } = controller;
  let depth = 0;
  const carries = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
  const show = (dragging: boolean): void => {
    if (app.get().dragging !== dragging) app.set({ dragging });
  };
  document.addEventListener("dragenter", (event) => {
    if (!carries(event)) return;
    depth += 1;
    show(true);
  }, { signal });
  document.addEventListener("dragleave", (event) => {
    if (!carries(event)) return;
    depth -= 1;
    if (depth <= 0) show(false);
  }, { signal });
  document.addEventListener("dragover", (event) => event.preventDefault(), { signal });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    show(false);
    const items = event.dataTransfer?.items;
    if (items && app.get().connection === "open") void droppedFiles(items).then((files) => open(files));
  }, { signal });
  return () => controller.abort();
}
