// The scan on screen: NiiVue for intensities and 3D, the overlay for everything drawn upon them.

import { NVImage, SLICE_TYPE } from "@niivue/niivue";
import { AXES, Grid, PLANES, type Plane } from "../lib/orientation";
import { rangeOf, windowOf } from "../lib/windows";
import { app, type AppState, type MaskView } from "../state/app";
import { onJump } from "../state/view";
import { labelsOf, onVolume } from "../state/voxels";
import type { Voxel } from "../types";
import { layoutOf, type PaneId } from "./layout";
import { boundsOf, composed, Outlines, type LoadedMask } from "./masks";
import { drawOverlay, type Measure, type Tile } from "./overlay";
import { Room, SLICE_TYPES } from "./room";

/** Space between an image and the edge of its pane, in CSS pixels. */
const INSET = 10;

export class Engine {
  private readonly room = new Room();
  private grid: Grid | null = null;
  private outlines: Outlines | null = null;
  private masks: LoadedMask[] = [];
  private inRoom: NVImage | null = null;
  private last: AppState = app.get();
  private frame = 0;
  private generation = 0;
  private readonly stops: (() => void)[] = [];
  measures: Measure[] = [];
  rubber: [Voxel, Voxel] | null = null;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly overlay: HTMLCanvasElement,
  ) {}

  async start(): Promise<void> {
    await this.room.attachToCanvas(this.canvas, false);
    this.room.onDrawn = () => this.redraw();
    this.room.onLocationChange = () => this.located();
    this.room.onIntensityChange = () => this.windowed();
    this.room.setRenderAzimuthElevation(160, 10);
    const resized = new ResizeObserver(() => this.arrange());
    resized.observe(this.canvas);
    this.stops.push(
      () => resized.disconnect(),
      app.subscribe(() => this.changed()),
      onJump((id) => this.jump(id)),
      onVolume((volume) => void (volume ? this.show(volume.bytes) : this.clear())),
    );
  }

  stop(): void {
    for (const stop of this.stops) stop();
    cancelAnimationFrame(this.frame);
    this.room.cleanup();
  }

  /** The pane and the RAS voxel below a place on screen; `null` beside the images and in 3D. */
  hit(clientX: number, clientY: number): { plane: Plane; ras: Voxel; exact: [number, number, number] } | null {
    if (!this.grid) return null;
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    const [x, y] = [(clientX - box.left) * scale, (clientY - box.top) * scale];
    for (const tile of this.tiles()) {
      const { across, up, through } = AXES[tile.plane];
      const exact: [number, number, number] = [0, 0, 0];
      exact[across] = (x - tile.x0) / tile.dx;
      exact[up] = (y - tile.y0) / tile.dy;
      exact[through] = tile.slice;
      const inside = [across, up].every((axis) => exact[axis] >= -0.5 && exact[axis] < (this.grid as Grid).size(axis) - 0.5);
      const [left, top, width, height] = tile.clip;
      if (inside && x >= left && x <= left + width && y >= top && y <= top + height) {
        return { plane: tile.plane, exact, ras: exact.map(Math.round) as Voxel };
      }
    }
    return null;
  }

  toFile(ras: Voxel): Voxel {
    return this.grid?.toFile(ras) ?? [0, 0, 0];
  }

  toRas(voxel: Voxel): Voxel {
    return this.grid?.toRas(voxel) ?? [0, 0, 0];
  }

  fileAxis(axis: 0 | 1 | 2): 0 | 1 | 2 | null {
    return this.grid?.fileAxis(axis) ?? null;
  }

  size(axis: 0 | 1 | 2): number {
    return this.grid?.size(axis) ?? 1;
  }

  /** Millimeters per voxel along a RAS axis; `null` where the file does not say. */
  spacing(axis: 0 | 1 | 2): number | null {
    return app.get().volume?.spacing_mm?.[this.grid?.fileAxis(axis) ?? axis] ?? null;
  }

  move(across: number, up: number, through: number): void {
    this.room.moveCrosshairInVox(across, up, through);
  }

  moveTo(ras: Voxel): void {
    if (!this.grid) return;
    this.room.scene.crosshairPos = this.room.vox2frac(ras as unknown as Parameters<Room["vox2frac"]>[0]);
    this.room.drawScene();
    this.located();
  }

  clearMeasures(): void {
    this.measures = [];
    this.redraw();
  }

  /** Draws the overlay again with the next frame. */
  redraw(): void {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paint());
  }

  private async show(bytes: ArrayBuffer): Promise<void> {
    this.clear();
    const generation = this.generation;
    const image = await imageOf(bytes, rangeOf(app.get().window));
    if (generation !== this.generation) return;
    this.room.addVolume(image);
    this.grid = new Grid(image.permRAS as unknown as Voxel, [1, 2, 3].map((axis) => image.hdr?.dims[axis] ?? 1) as Voxel);
    this.outlines = new Outlines(this.grid);
    this.applyWindow();
    this.arrange();
    this.moveTo([0, 1, 2].map((axis) => Math.floor((this.grid as Grid).size(axis as 0 | 1 | 2) / 2)) as Voxel);
    app.set({ voxels: "shown" });
    void this.loadMasks(app.get().masks);
  }

  private clear(): void {
    this.generation += 1;
    for (const volume of [...this.room.volumes]) this.room.removeVolume(volume);
    this.grid = null;
    this.outlines = null;
    this.masks = [];
    this.inRoom = null;
    this.measures = [];
    this.rubber = null;
    this.redraw();
  }

  private changed(): void {
    const [before, now] = [this.last, app.get()];
    this.last = now;
    if (before.window !== now.window) this.applyWindow();
    if (before.main !== now.main || before.only !== now.only) this.arrange();
    if (before.radiological !== now.radiological) this.room.setRadiologicalConvention(now.radiological);
    if (before.masks !== now.masks) void this.loadMasks(now.masks);
    else if (before.showMasks !== now.showMasks) this.showIn3d();
    this.redraw();
  }

  private applyWindow(): void {
    const [image] = this.room.volumes;
    if (!image) return;
    const [low, high] = rangeOf(app.get().window);
    if (image.cal_min === low && image.cal_max === high) return;
    image.cal_min = low;
    image.cal_max = high;
    this.room.refreshLayers(image, 0);
    this.room.drawScene();
  }

  private windowed(): void {
    const [image] = this.room.volumes;
    if (!image || image.cal_min === undefined || image.cal_max === undefined) return;
    app.set({ window: windowOf(image.cal_min, image.cal_max) });
  }

  private arrange(): void {
    const { main, only } = app.get();
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (width === 0 || height === 0) return;
    const [padX, padY] = [INSET / width, INSET / height];
    const entries = Object.entries(layoutOf(main, only, width / height)) as [PaneId, { x: number; y: number; width: number; height: number }][];
    this.room.setCustomLayout(
      entries.map(([pane, rect]) => ({
        sliceType: pane === "volume" ? SLICE_TYPE.RENDER : SLICE_TYPES[pane],
        position: [rect.x + padX, rect.y + padY, rect.width - 2 * padX, rect.height - 2 * padY],
      })),
    );
    this.overlay.width = this.canvas.width;
    this.overlay.height = this.canvas.height;
    this.room.drawScene();
  }

  private located(): void {
    const [image] = this.room.volumes;
    if (!this.grid || !image?.img) return;
    const ras = this.crosshair();
    const { start, step } = this.grid.strides();
    const raw = image.img[start + ras[0] * step[0] + ras[1] * step[1] + ras[2] * step[2]] ?? 0;
    const value = Number(raw) * (image.hdr?.scl_slope ?? 1) + (image.hdr?.scl_inter ?? 0);
    app.set({ cursor: { ras, voxel: this.grid.toFile(ras), value } });
  }

  private crosshair(): Voxel {
    const at = this.room.scene.crosshairPos;
    return [0, 1, 2].map((axis) => {
      const size = (this.grid as Grid).size(axis as 0 | 1 | 2);
      return Math.min(size - 1, Math.max(0, Math.round((at[axis] as number) * size - 0.5)));
    }) as Voxel;
  }

  private jump(id: string): void {
    const view = app.get().masks.find((mask) => mask.id === id);
    if (!this.grid || !view?.info.centroid_voxel) return;
    this.moveTo(this.grid.toRas(view.info.centroid_voxel));
  }

  private async loadMasks(views: MaskView[]): Promise<void> {
    const { grid, generation } = this;
    if (!grid) return;
    const loaded = await Promise.all(views.filter((view) => view.info.voxels > 0).map((view) => this.load(grid, view)));
    if (generation !== this.generation || app.get().masks !== views) return;
    const before = this.masks;
    this.masks = loaded.filter((mask) => mask !== null);
    const same = before.length === this.masks.length && before.every((mask, i) => mask.view.id === this.masks[i]?.view.id);
    if (!same) this.compose();
    this.showIn3d();
    this.redraw();
    const fresh = this.masks.find((mask) => mask.view.id === app.get().selected && !before.some((old) => old.view.id === mask.view.id));
    if (fresh && !this.seen(fresh)) this.jump(fresh.view.id);
  }

  /** Whether a mask reaches the slice that is being read. */
  private seen(mask: LoadedMask): boolean {
    const { through } = AXES[app.get().main];
    const [first, last] = mask.bounds[through];
    const at = this.crosshair()[through];
    return at >= first && at <= last;
  }

  private async load(grid: Grid, view: MaskView): Promise<LoadedMask | null> {
    const known = this.masks.find((mask) => mask.view.id === view.id);
    if (known) return { ...known, view };
    try {
      const labels = await labelsOf(view.result, view.info.file);
      const bounds = boundsOf(grid, labels).get(view.info.label);
      return bounds ? { view, labels, bounds } : null;
    } catch {
      // The list still shows the mask and its numbers; only its drawing is missing.
      return null;
    }
  }

  private compose(): void {
    const [image] = this.room.volumes;
    if (!image?.hdr) return;
    if (this.inRoom) this.room.removeVolume(this.inRoom);
    this.inRoom = null;
    if (this.masks.length === 0) return;
    const all = image.clone();
    const [i, j, k] = (this.grid as Grid).shape;
    all.img = composed(this.masks, i * j * k, null);
    if (all.hdr) Object.assign(all.hdr, { datatypeCode: 2, numBitsPerVoxel: 8, scl_slope: 1, scl_inter: 0, intent_code: 1002, cal_min: 0, cal_max: 255 });
    this.inRoom = all;
    this.colorIn3d(all);
    this.room.addVolume(all);
  }

  private showIn3d(): void {
    if (!this.inRoom) return;
    this.colorIn3d(this.inRoom);
    this.room.updateGLVolume();
  }

  private colorIn3d(image: NVImage): void {
    const { showMasks } = app.get();
    const views = this.masks.slice(0, 255).map((mask) => mask.view);
    image.setColormapLabel({
      R: [0, ...views.map((view) => view.color[0])],
      G: [0, ...views.map((view) => view.color[1])],
      B: [0, ...views.map((view) => view.color[2])],
      A: [0, ...views.map((view) => (showMasks && view.visible ? 255 : 0))],
      I: [0, ...views.map((_, index) => index + 1)],
      labels: ["", ...views.map((view) => view.info.name)],
    });
  }

  private tiles(): Tile[] {
    const tiles: Tile[] = [];
    if (!this.grid) return tiles;
    const at = this.crosshair();
    this.room.screenSlices.forEach((screen, index) => {
      const plane = PLANES.find((p) => SLICE_TYPES[p] === screen.axCorSag);
      if (!plane) return;
      const [edge, top, span, height] = screen.leftTopWidthHeight as [number, number, number, number];
      // NiiVue gives mirrored tiles a negative width.
      const [left, width] = span < 0 ? [edge + span, -span] : [edge, span];
      // Well inside of the tile: at its very edge, rounding can put a place outside.
      const first = this.room.screenXY2TextureFrac(left + width / 4, top + height / 4, index, false);
      const last = this.room.screenXY2TextureFrac(left + (3 * width) / 4, top + (3 * height) / 4, index, false);
      const { across, up, through } = AXES[plane];
      const grid = this.grid as Grid;
      // Fractions count from the edge of the first voxel, voxels from its middle.
      const [ax, bx] = [first[across] * grid.size(across) - 0.5, last[across] * grid.size(across) - 0.5];
      const [ay, by] = [first[up] * grid.size(up) - 0.5, last[up] * grid.size(up) - 0.5];
      const dx = width / 2 / (bx - ax);
      const dy = height / 2 / (by - ay);
      const x0 = left + width / 4 - ax * dx;
      const y0 = top + height / 4 - ay * dy;
      tiles.push({ plane, slice: at[through], clip: [left, top, width, height], x0, dx, y0, dy, mmUp: this.spacing(up) });
    });
    return tiles;
  }

  private paint(): void {
    const context = this.overlay.getContext("2d");
    if (!context) return;
    if (!this.grid || !this.outlines) {
      context.clearRect(0, 0, this.overlay.width, this.overlay.height);
      return;
    }
    if (this.overlay.width !== this.canvas.width || this.overlay.height !== this.canvas.height) {
      this.overlay.width = this.canvas.width;
      this.overlay.height = this.canvas.height;
    }
    const dpr = this.canvas.width / Math.max(1, this.canvas.clientWidth);
    const scene = { state: app.get(), grid: this.grid, masks: this.masks, outlines: this.outlines, measures: this.measures, at: this.crosshair(), rubber: this.rubber };
    drawOverlay(context, this.tiles(), scene, dpr);
  }
}

/** The scan as NiiVue's image; all but the window are NiiVue's defaults. */
function imageOf(bytes: ArrayBuffer, [low, high]: [number, number]): Promise<NVImage> {
  return NVImage.loadFromUrl({ url: "scan.nii", name: "scan.nii", buffer: bytes, colormap: "gray", cal_min: low, cal_max: high });
}
