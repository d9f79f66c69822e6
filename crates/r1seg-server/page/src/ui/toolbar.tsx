// Tools, windows, and how masks are drawn.

import type { JSX } from "preact";
import { PRESETS, presetOf } from "../lib/windows";
import { app, currentModel, type Tool } from "../state/app";
import { takesBox, takesPoints } from "../state/capabilities";
import { undo } from "../state/drafts";
import { useStore } from "../state/store";
import { setTool, setWindow, toggleMasks } from "../state/view";
import { engine } from "../viewer/current";
import { Icon, type IconName } from "./icon";

interface ToolButton {
  tool: Tool;
  icon: IconName;
  name: string;
  key: string;
}

const LOOK: ToolButton = { tool: "look", icon: "look", name: "Look", key: "l" };
const POSITIVE: ToolButton = { tool: "positive", icon: "positive", name: "Point inside", key: "p" };
const NEGATIVE: ToolButton = { tool: "negative", icon: "negative", name: "Point outside", key: "n" };
const BOX: ToolButton = { tool: "box", icon: "box", name: "Box", key: "b" };
const MEASURE: ToolButton = { tool: "measure", icon: "measure", name: "Measure", key: "d" };

export function Toolbar(): JSX.Element {
  return (
    <div class="toolbar" role="toolbar" aria-label="Viewer">
      <Tools />
      <Windows />
      <Masks />
      <Convention />
    </div>
  );
}

function Tools(): JSX.Element {
  const tool = useStore(app, (s) => s.tool);
  const model = useStore(app, currentModel);
  const drafting = useStore(app, (s) => s.draft.history.length > 0);
  const webgl = useStore(app, (s) => s.webgl);
  if (!webgl) return <></>;
  const tools = [LOOK, ...(takesPoints(model) ? [POSITIVE, NEGATIVE] : []), ...(takesBox(model) ? [BOX] : []), MEASURE];
  return (
    <div class="group" role="group" aria-label="Tools">
      {tools.map(({ tool: one, icon, name, key }) => (
        <button
          key={one}
          class="tool"
          aria-label={name}
          aria-pressed={tool === one}
          title={`${name} (${key})`}
          onClick={() => {
            if (one === "measure" && tool === "measure") engine()?.clearMeasures();
            setTool(one);
          }}
        >
          <Icon name={icon} />
        </button>
      ))}
      {drafting && (
        <button class="tool" aria-label="Undo" title="Take the last click back (z)" onClick={undo}>
          <Icon name="undo" />
        </button>
      )}
    </div>
  );
}

function Windows(): JSX.Element | null {
  const window = useStore(app, (s) => s.window);
  const hu = useStore(app, (s) => s.volume?.is_hu ?? false);
  if (!hu) return null;
  const current = presetOf(window);
  return (
    <div class="group" role="group" aria-label="Window">
      {PRESETS.map((preset) => (
        <button
          key={preset.id}
          class="tool text"
          aria-pressed={current?.id === preset.id}
          title={`W ${preset.width} L ${preset.level} (w: next)`}
          onClick={() => setWindow({ width: preset.width, level: preset.level })}
        >
          {preset.name}
        </button>
      ))}
    </div>
  );
}

function Masks(): JSX.Element | null {
  const any = useStore(app, (s) => s.masks.length > 0);
  const shown = useStore(app, (s) => s.showMasks);
  const outline = useStore(app, (s) => s.outline);
  const fill = useStore(app, (s) => s.fill);
  const webgl = useStore(app, (s) => s.webgl);
  if (!any) return null;
  return (
    <div class="group" role="group" aria-label="Masks">
      <button class="tool" aria-label="Show masks" aria-pressed={shown} title="Hide or show all masks (m)" onClick={toggleMasks}>
        <Icon name={shown ? "eye" : "eye-off"} />
      </button>
      {webgl && (
        <>
          <button class="tool" aria-label="Outline" aria-pressed={outline} title="Outline" onClick={() => app.set({ outline: !outline })}>
            <Icon name="outline" />
          </button>
          <label class="slider" title="How opaque the fill is">
            <span>Fill</span>
            <input
              type="range"
              min="0"
              max="100"
              step="5"
              value={Math.round(fill * 100)}
              aria-label="Opacity of the fill"
              aria-valuetext={`${Math.round(fill * 100)} percent`}
              onInput={(event) => app.set({ fill: Number(event.currentTarget.value) / 100 })}
            />
            <span class="value">{Math.round(fill * 100)} %</span>
          </label>
        </>
      )}
    </div>
  );
}

function Convention(): JSX.Element | null {
  const radiological = useStore(app, (s) => s.radiological);
  const useful = useStore(app, (s) => s.webgl && s.volume?.orientation != null);
  if (!useful) return null;
  return (
    <div class="group end" role="group" aria-label="Convention">
      <button
        class="tool text"
        aria-label={radiological ? "Convention: radiological" : "Convention: neurological"}
        title={radiological ? "The patient's right is on the left (radiological)" : "The patient's right is on the right (neurological)"}
        onClick={() => app.set({ radiological: !radiological })}
      >
        {radiological ? "R | L" : "L | R"}
      </button>
    </div>
  );
}
