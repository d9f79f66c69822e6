// NiiVue, with what the page draws itself taken out: keys, drops, and masks in the slices.

import { DRAG_MODE, Niivue, SLICE_TYPE } from "@niivue/niivue";
import type { Plane } from "../lib/orientation";

export const SLICE_TYPES: Record<Plane, SLICE_TYPE> = {
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
};

/** How much of the body is left in the 3D pane where masks lie inside it. */
const BODY_BEHIND_MASKS = 0.25;

export class Room extends Niivue {
  onDrawn: () => void = () => {};
  private pending: number | null = null;

  constructor() {
    super({
      backColor: [0, 0, 0, 1],
      crosshairWidth: 0,
      show3Dcrosshair: false,
      dragAndDropEnabled: false,
      isColorbar: false,
      isOrientCube: false,
      isOrientationTextVisible: false,
      isRuler: false,
      isRadiologicalConvention: true,
      sagittalNoseLeft: true,
      loadingText: "",
      logLevel: "error",
      dragMode: DRAG_MODE.windowing,
      mouseEventConfig: {
        leftButton: { primary: DRAG_MODE.crosshair, withShift: DRAG_MODE.pan },
        rightButton: DRAG_MODE.windowing,
        centerButton: DRAG_MODE.pan,
      },
      touchEventConfig: { singleTouch: DRAG_MODE.crosshair, doubleTouch: DRAG_MODE.pan },
    });
  }

  /** NiiVue asks for a drawing several times for one change; one for each frame is enough. */
  override drawScene(): void {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      super.drawScene();
      this.onDrawn();
    });
  }

  // Masks in slices are the page's own lines and fills, sharp at any zoom; NiiVue shows them in 3D.
  override updateGLVolume(): void {
    super.updateGLVolume();
    this.masksIn3dOnly();
  }

  override refreshLayers(...args: Parameters<Niivue["refreshLayers"]>): void {
    super.refreshLayers(...args);
    this.masksIn3dOnly();
  }

  override keyDownListener(): void {}
  override keyUpListener(): void {}
  override resetBriCon(): void {}

  private masksIn3dOnly(): void {
    if (this.volumes.length === 0) return;
    const slices = this.sliceMMShader;
    if (slices) {
      slices.use(this.gl);
      this.gl.uniform1f(slices.uniforms["overlays"] ?? null, 0);
    }
    if (this.renderShader) {
      this.renderShader.use(this.gl);
      const opacity = this.volumes.length > 1 ? BODY_BEHIND_MASKS : 1;
      this.gl.uniform1f(this.renderShader.uniforms["backOpacity"] ?? null, opacity);
    }
  }
}
