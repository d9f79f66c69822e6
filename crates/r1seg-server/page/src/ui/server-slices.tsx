// Slices that the server draws, where this browser has no WebGL2.

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { client } from "../api/client";
import { letters, PLANES, type Plane } from "../lib/orientation";
import { app } from "../state/app";
import { useStore } from "../state/store";
import { lost } from "../state/session";
import type { Volume } from "../types";
import { Icon } from "./icon";

const NAMES: Record<Plane, string> = { axial: "Axial", coronal: "Coronal", sagittal: "Sagittal" };

/** Which letters of an orientation code a plane's slices count along. */
const THROUGH: Record<Plane, string> = { axial: "SI", coronal: "AP", sagittal: "LR" };

export function axisThrough(orientation: string | null, plane: Plane): 0 | 1 | 2 {
  const found = [...(orientation ?? "RAS")].findIndex((letter) => THROUGH[plane].includes(letter));
  return (found < 0 ? 2 : found) as 0 | 1 | 2;
}

export function ServerSlices(): JSX.Element | null {
  const volume = useStore(app, (s) => s.volume);
  if (!volume) return null;
  return (
    <div class="server-slices">
      <p class="notice">
        <Icon name="info" />
        <span>This browser does not offer WebGL2, so that the server draws the slices. Questions, masks and downloads work as usual; points and 3D need WebGL2.</span>
      </p>
      <div class="server-panes">
        {PLANES.map((plane) => (
          <ServerPane key={plane} plane={plane} volume={volume} />
        ))}
      </div>
    </div>
  );
}

function ServerPane({ plane, volume }: { plane: Plane; volume: Volume }): JSX.Element {
  const axis = axisThrough(volume.orientation, plane);
  const size = volume.shape[axis];
  const [index, setIndex] = useState(Math.floor(size / 2));
  const url = useSlice(volume, plane, index);
  const selected = useStore(app, (s) => s.masks.find((mask) => mask.id === s.selected));
  useEffect(() => {
    const centroid = selected?.info.centroid_voxel;
    if (centroid) setIndex(Math.round(centroid[axis]));
  }, [selected?.id]);
  const { left, right, top, bottom } = letters(plane, true);
  return (
    <figure class={`server-pane ${plane}`}>
      <figcaption>
        {NAMES[plane]}
        <span>
          {"ijk"[axis]} {index} / {size - 1}
        </span>
      </figcaption>
      <div
        class="server-image"
        onWheel={(event) => {
          event.preventDefault();
          setIndex((at) => Math.min(size - 1, Math.max(0, at + (event.deltaY < 0 ? 1 : -1))));
        }}
      >
        {url && <img src={url} alt={`${NAMES[plane]} slice ${index}`} />}
        {volume.orientation && (
          <div class="letters" aria-hidden="true">
            <span class="at-left">{left}</span>
            <span class="at-right">{right}</span>
            <span class="at-top">{top}</span>
            <span class="at-bottom">{bottom}</span>
          </div>
        )}
      </div>
      <input
        type="range"
        min="0"
        max={size - 1}
        value={index}
        aria-label={`${NAMES[plane]} slice`}
        onInput={(event) => setIndex(Number(event.currentTarget.value))}
      />
    </figure>
  );
}

/** The picture of a slice, as the server draws it; the last one stays until the next has come. */
function useSlice(volume: Volume, plane: Plane, index: number): string | null {
  const window = useStore(app, (s) => s.window);
  const result = useStore(app, (s) => (s.showMasks ? (s.masks.find((mask) => mask.id === s.selected)?.result ?? s.masks.at(-1)?.result ?? null) : null));
  const [url, setUrl] = useState<string | null>(null);
  useEffect(() => {
    const controller = new AbortController();
    const query = new URLSearchParams({ axis: plane, index: String(index), level: String(window.level), width: String(window.width) });
    if (result) query.set("result", result);
    client
      .blob(`v1/volumes/${volume.id}/slice.png?${query}`, controller.signal)
      .then((blob) => setUrl(URL.createObjectURL(blob)))
      .catch(lost);
    return () => controller.abort();
  }, [volume.id, plane, index, window, result]);
  useEffect(() => () => void (url && URL.revokeObjectURL(url)), [url]);
  return url;
}
