// One mask in the list: its color, name, size, and whether it is seen.

import type { JSX } from "preact";
import { fromHex, toHex } from "../lib/colors";
import { count, milliliters, signed } from "../lib/format";
import { app, type MaskView } from "../state/app";
import { useStore } from "../state/store";
import { colorMask, selectMask, toggleMask } from "../state/view";
import { Icon } from "./icon";

export function MaskRow({ mask, number }: { mask: MaskView; number: number }): JSX.Element {
  const selected = useStore(app, (s) => s.selected === mask.id);
  const shown = useStore(app, (s) => s.showMasks) && mask.visible;
  const { info } = mask;
  return (
    <li class={`mask${selected ? " selected" : ""}${shown ? "" : " unseen"}`}>
      <input
        type="color"
        class="swatch"
        value={toHex(mask.color)}
        aria-label={`Color of ${info.name}`}
        title="Choose another color"
        onInput={(event) => colorMask(mask.id, fromHex(event.currentTarget.value))}
      />
      <button class="mask-main" onClick={() => selectMask(mask.id)} aria-pressed={selected} title={number <= 9 ? `Go to it (${number})` : "Go to it"}>
        <span class="mask-name">{info.name}</span>
        <span class="mask-volume">{info.volume_ml === null ? `${count(info.voxels)} voxels` : milliliters(info.volume_ml)}</span>
        <span class="mask-facts">{facts(mask)}</span>
      </button>
      <button
        class="icon-button"
        aria-label={`${mask.visible ? "Hide" : "Show"} ${info.name}`}
        aria-pressed={mask.visible}
        onClick={() => toggleMask(mask.id)}
      >
        <Icon name={mask.visible ? "eye" : "eye-off"} />
      </button>
    </li>
  );
}

function facts({ info, result }: MaskView): string {
  const parts: string[] = [];
  if (info.volume_ml === null) parts.push("volume unknown: the file has no spacing");
  if (info.mean_hu !== null) parts.push(`mean ${signed(info.mean_hu)} HU`);
  if (info.components > 1) parts.push(`${count(info.components)} parts`);
  if (info.touches_border) parts.push("cut off by the scan's edge");
  if (info.refines !== null) {
    const coarse = app.get().masks.find((mask) => mask.result === result && mask.info.label === info.refines);
    parts.push(`drawn again from ${coarse ? coarse.info.name : `label ${info.refines}`}`);
  }
  return parts.join(" · ");
}
