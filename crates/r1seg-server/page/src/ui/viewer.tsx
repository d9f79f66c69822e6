// The panes: the canvas with its overlay, and what stands at the edges of each pane.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { bytes, percent, signed } from "../lib/format";
import { AXES, letters, type Plane } from "../lib/orientation";
import { app } from "../state/app";
import { useStore } from "../state/store";
import { setMain, setOnly } from "../state/view";
import { showVolume } from "../state/voxels";
import { layoutOf, type PaneId, type Rect } from "../viewer/layout";
import { listen } from "../viewer/pointer";
import { engine as currentEngine, setEngine } from "../viewer/current";
import { Icon } from "./icon";

export function Viewer(): JSX.Element {
  const area = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const overlay = useRef<HTMLCanvasElement>(null);
  const tool = useStore(app, (s) => s.tool);
  useEffect(() => {
    if (!area.current || !canvas.current || !overlay.current) return;
    return mount(area.current, canvas.current, overlay.current);
  }, []);
  return (
    <div class={`viewer tool-${tool}`} ref={area} data-voxels={useStore(app, (s) => s.voxels)}>
      <canvas ref={canvas} class="gl" role="img" aria-label="The scan in three planes and in 3D" />
      <canvas ref={overlay} class="overlay" aria-hidden="true" />
      <Panes area={area} />
      <Loading />
    </div>
  );
}

/** NiiVue is most of the page's code, and is loaded while one chooses a scan. */
function mount(area: HTMLElement, canvas: HTMLCanvasElement, overlay: HTMLCanvasElement): () => void {
  const stops: (() => void)[] = [];
  let gone = false;
  const start = async (): Promise<void> => {
    const { Engine } = await import("../viewer/engine");
    if (gone) return;
    const engine = new Engine(canvas, overlay);
    stops.push(() => engine.stop(), listen(area, engine), () => setEngine(null));
    await engine.start();
    setEngine(engine);
  };
  start().catch(() => app.set({ webgl: false }));
  return () => {
    gone = true;
    for (const stop of stops.reverse()) stop();
  };
}

function Loading(): JSX.Element | null {
  const voxels = useStore(app, (s) => s.voxels);
  const received = useStore(app, (s) => s.received);
  const volume = useStore(app, (s) => s.volume);
  if (voxels === "failed" && volume) {
    return (
      <div class="loading failed">
        <p>The scan could not be loaded from the server.</p>
        <button class="button" onClick={() => void showVolume(volume)}>
          <Icon name="retry" /> Try again
        </button>
      </div>
    );
  }
  if (voxels !== "loading") return null;
  const share = received.total ? percent(received.bytes, received.total) : null;
  return (
    <div class="loading">
      <div class="bar" role="progressbar" aria-label="Loading the scan" {...(share === null ? {} : { "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": share })}>
        <span class={share === null ? "moving" : ""} style={{ width: `${share ?? 100}%` }} />
      </div>
      <p class="numbers">
        <span>Loading the scan</span>
        <span>{received.total ? `${bytes(received.bytes)} of ${bytes(received.total)}` : bytes(received.bytes)}</span>
      </p>
    </div>
  );
}

function Panes({ area }: { area: { current: HTMLDivElement | null } }): JSX.Element {
  const main = useStore(app, (s) => s.main);
  const only = useStore(app, (s) => s.only);
  const [aspect, setAspect] = useState(1.4);
  useEffect(() => {
    if (!area.current) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry && entry.contentRect.height > 0) setAspect(entry.contentRect.width / entry.contentRect.height);
    });
    observer.observe(area.current);
    return () => observer.disconnect();
  }, []);
  const layout = layoutOf(main, only, aspect);
  return (
    <>
      {(Object.entries(layout) as [PaneId, Rect][]).map(([pane, rect]) =>
        pane === "volume" ? <VolumePane key={pane} rect={rect} only={only} /> : <SlicePane key={pane} plane={pane} rect={rect} main={main} only={only} />,
      )}
    </>
  );
}

function placed({ x, y, width, height }: Rect): Record<string, string> {
  return { left: `${x * 100}%`, top: `${y * 100}%`, width: `${width * 100}%`, height: `${height * 100}%` };
}

const NAMES: Record<Plane, string> = { axial: "Axial", coronal: "Coronal", sagittal: "Sagittal" };

function SlicePane({ plane, rect, main, only }: { plane: Plane; rect: Rect; main: Plane; only: PaneId | null }): JSX.Element {
  const cursor = useStore(app, (s) => s.cursor);
  const volume = useStore(app, (s) => s.volume);
  const radiological = useStore(app, (s) => s.radiological);
  const shown = useStore(app, (s) => s.voxels === "shown");
  const large = main === plane || only === plane;
  const known = volume?.orientation != null;
  const { left, right, top, bottom } = letters(plane, radiological);
  const axis = cursor ? (currentEngine()?.fileAxis(AXES[plane].through) ?? null) : null;
  const size = axis === null ? 1 : (volume?.shape[axis] ?? 1);
  const index = axis === null ? 0 : (cursor?.voxel[axis] ?? 0);
  return (
    <div class={`pane${large ? " large" : ""}`} style={placed(rect)} data-pane={plane}>
      {shown && (
        <>
          <div
            class="pane-slider"
            role="slider"
            tabIndex={0}
            aria-label={`${NAMES[plane]} slice`}
            aria-orientation="vertical"
            aria-valuemin={0}
            aria-valuemax={size - 1}
            aria-valuenow={index}
            data-plane={plane}
          />
          <p class="pane-name">
            {NAMES[plane]}
            {axis !== null && (
              <span>
                {"ijk"[axis]} {index} / {size - 1}
              </span>
            )}
          </p>
          {known && (
            <div class="letters" aria-hidden="true">
              <span class="at-left">{left}</span>
              <span class="at-right">{right}</span>
              <span class="at-top">{top}</span>
              <span class="at-bottom">{bottom}</span>
            </div>
          )}
          {large && <Readout known={known} radiological={radiological} />}
          <div class="pane-buttons">
            {!large && (
              <button class="icon-button" aria-label={`Read the ${plane} plane`} title="Make this the large pane" onClick={() => setMain(plane)}>
                <Icon name="flip" />
              </button>
            )}
            <button class="icon-button" aria-label={only ? "All panes" : `Only the ${plane} plane`} title={only ? "All panes (x)" : "Only this pane (x)"} onClick={() => setOnly(plane)}>
              <Icon name={only ? "shrink" : "expand"} />
            </button>
          </div>
        </>
      )}
    </div>
  );
}

function Readout({ known, radiological }: { known: boolean; radiological: boolean }): JSX.Element {
  const cursor = useStore(app, (s) => s.cursor);
  const window = useStore(app, (s) => s.window);
  const hu = useStore(app, (s) => s.volume?.is_hu ?? false);
  return (
    <div class="readout">
      <span>
        {cursor && (
          <>
            ({cursor.voxel.join(", ")}) <b>{hu ? `${signed(cursor.value)} HU` : Number(cursor.value.toPrecision(4))}</b>
          </>
        )}
      </span>
      <span>
        W {signed(window.width)} L {signed(window.level)}
        {known ? (radiological ? "" : " · neurological") : " · orientation unknown"}
      </span>
    </div>
  );
}

function VolumePane({ rect, only }: { rect: Rect; only: PaneId | null }): JSX.Element {
  const shown = useStore(app, (s) => s.voxels === "shown");
  return (
    <div class="pane" style={placed(rect)} data-pane="volume">
      {shown && (
        <>
          <p class="pane-name">3D</p>
          <div class="pane-buttons">
            <button class="icon-button" aria-label={only ? "All panes" : "Only 3D"} title={only ? "All panes (x)" : "Only this pane (x)"} onClick={() => setOnly("volume")}>
              <Icon name={only ? "shrink" : "expand"} />
            </button>
          </div>
        </>
      )}
    </div>
  );
}
