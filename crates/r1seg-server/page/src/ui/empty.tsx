// The room before a scan is open: what can be dropped, and one click to see it work.

import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import { bytes, minutes, percent } from "../lib/format";
import { chosenFiles } from "../lib/drop";
import { app } from "../state/app";
import { useStore } from "../state/store";
import { cancelUpload, open, openAgain, openPhantom } from "../state/volumes";
import { UploadTrouble } from "./trouble";
import { Icon } from "./icon";

export function Empty(): JSX.Element {
  const upload = useStore(app, (s) => s.upload);
  const problem = useStore(app, (s) => s.uploadProblem);
  const dragging = useStore(app, (s) => s.dragging);
  return (
    <div class={`empty${dragging ? " dragging" : ""}`}>
      <div class="empty-inner">
        {upload ? <Uploading /> : problem ? <UploadTrouble problem={problem} onChoose={openAgain} /> : null}
        {!upload && <Invitation small={problem !== null} title={problem ? "Or open another scan" : "Drop a CT here"} />}
      </div>
    </div>
  );
}

export function Invitation({ small, title }: { small: boolean; title: string }): JSX.Element {
  const info = useStore(app, (s) => s.info);
  const ready = useStore(app, (s) => s.connection === "open");
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const take = ({ currentTarget: input }: { currentTarget: HTMLInputElement }): void => {
    if (input.files) void open(chosenFiles(input.files));
    input.value = "";
  };
  return (
    <section class="invitation" aria-labelledby="invitation">
      <h2 id="invitation">{title}</h2>
      {!small && <p class="muted">A NIfTI file, an NRRD file, or a folder with one DICOM series.</p>}
      <div class="row">
        <button class="button primary" disabled={!ready} onClick={() => files.current?.click()}>
          <Icon name="file" /> Open files
        </button>
        <button class="button" disabled={!ready} onClick={() => folder.current?.click()}>
          <Icon name="folder" /> Open a DICOM folder
        </button>
      </div>
      {info?.demo && (
        <p class="or">
          <span>No scan at hand?</span>
          <button class="button quiet" disabled={!ready} onClick={() => void openPhantom()}>
            Try it on the demo phantom
          </button>
        </p>
      )}
      <input ref={files} class="hidden" type="file" multiple aria-label="Scan files" tabIndex={-1} onChange={take} />
      <input
        ref={(element) => {
          folder.current = element;
          element?.setAttribute("webkitdirectory", "");
        }}
        class="hidden"
        type="file"
        multiple
        aria-label="DICOM folder"
        tabIndex={-1}
        onChange={take}
      />
      {info && !small && (
        <p class="fine">
          The scan goes to the server at {location.host} and nowhere else. It is kept there for {minutes(info.limits.ttl_s)}, or until you
          say forget. Up to {bytes(info.limits.max_body_bytes)}.
        </p>
      )}
    </section>
  );
}

function Uploading(): JSX.Element | null {
  const upload = useStore(app, (s) => s.upload);
  if (!upload) return null;
  const { name, sent, total } = upload;
  const all = total > 0 && sent >= total;
  const share = percent(sent, total);
  return (
    <section class="uploading" aria-live="off">
      <h2>{name}</h2>
      {total > 0 ? (
        <>
          <div class="bar" role="progressbar" aria-label="Upload" aria-valuemin={0} aria-valuemax={100} aria-valuenow={share}>
            <span class={all ? "moving" : ""} style={{ width: `${all ? 100 : share}%` }} />
          </div>
          <p class="numbers">
            {all ? <span>Reading the scan on the server…</span> : <span>{`${bytes(sent)} of ${bytes(total)}`}</span>}
            {!all && <span>{share} %</span>}
          </p>
        </>
      ) : (
        <>
          <div class="bar" role="progressbar" aria-label="Drawing the phantom">
            <span class="moving" style={{ width: "100%" }} />
          </div>
          <p class="numbers">Drawing the phantom…</p>
        </>
      )}
      <button class="button" onClick={cancelUpload}>
        Cancel
      </button>
    </section>
  );
}
