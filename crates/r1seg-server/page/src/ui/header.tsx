// The line at the top: what is open, which model answers, and the room's switches.

import type { JSX } from "preact";
import { clock, shape, signed, spacing } from "../lib/format";
import { verdict } from "../lib/words";
import { app } from "../state/app";
import { chooseModel } from "../state/session";
import { useStore } from "../state/store";
import { toggleTheme } from "../state/view";
import type { Volume } from "../types";
import { Icon } from "./icon";

export function Header(): JSX.Element {
  const volume = useStore(app, (s) => s.volume);
  const models = useStore(app, (s) => s.models);
  const model = useStore(app, (s) => s.model);
  const theme = useStore(app, (s) => s.theme);
  return (
    <header class="header">
      <h1 class="wordmark">r1seg</h1>
      {volume ? <Facts volume={volume} /> : <span class="grow" />}
      {volume && (
        <button class="icon-button" aria-label="Open another scan" title="Open another scan" onClick={() => app.set({ dialog: { kind: "open" } })}>
          <Icon name="folder" />
        </button>
      )}
      {models.length > 0 && (
        <label class="field">
          <span class="muted">Model</span>
          <select value={model ?? ""} onChange={(event) => chooseModel(event.currentTarget.value)}>
            {models.map(({ id, is_demo }) => (
              <option key={id} value={id}>
                {id}
                {is_demo && id !== "demo" ? " (demo)" : ""}
              </option>
            ))}
          </select>
        </label>
      )}
      <button class="icon-button" aria-label={theme === "dark" ? "Light theme" : "Dark theme"} title="Theme (t)" onClick={toggleTheme}>
        <Icon name={theme === "dark" ? "sun" : "moon"} />
      </button>
      <button class="icon-button" aria-label="Keys and help" title="Keys and help (?)" onClick={() => app.set({ dialog: { kind: "help" } })}>
        <Icon name="help" />
      </button>
    </header>
  );
}

function Facts({ volume }: { volume: Volume }): JSX.Element {
  const range = volume.intensity_range;
  return (
    <div class="facts">
      <span class="file" title={volume.name}>
        {volume.name}
      </span>
      {volume.series && volume.series.of > 1 && (
        <span class="fact">
          series {volume.series.number} of {volume.series.of}
        </span>
      )}
      <span class="fact" title="voxels along i, j and k">
        {shape(volume.shape)}
      </span>
      <span class="fact" title="size of a voxel along i, j and k">
        {spacing(volume.spacing_mm)}
      </span>
      {range && (
        <span class="fact" title="least and greatest intensity">
          {verdict(volume)} {signed(range[0])} … {signed(range[1])}
        </span>
      )}
      <span class="grow" />
      <button class="kept" title="Delete the scan and its masks from the server" onClick={() => app.set({ dialog: { kind: "forget" } })}>
        kept until {clock(volume.expires)} <span class="link">Forget</span>
      </button>
    </div>
  );
}
