// Help, and the question before something is deleted.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { clock } from "../lib/format";
import { HELP } from "../lib/keys";
import { app } from "../state/app";
import { connect, enterKey } from "../state/session";
import { useStore } from "../state/store";
import { forget } from "../state/volumes";
import { Invitation } from "./empty";
import { Icon } from "./icon";

export function Dialogs(): JSX.Element | null {
  const dialog = useStore(app, (s) => s.dialog);
  const connection = useStore(app, (s) => s.connection);
  if (connection === "key") return <KeyDialog />;
  if (dialog?.kind === "help") return <HelpDialog />;
  if (dialog?.kind === "forget") return <ForgetDialog />;
  if (dialog?.kind === "open") return <OpenDialog />;
  return null;
}

const close = (): void => app.set({ dialog: null });

function Modal({ title, onClose, wide, children }: { title: string; onClose?: () => void; wide?: boolean; children: ComponentChildren }): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog
      ref={dialog}
      class={wide ? "wide" : ""}
      aria-labelledby="dialog-title"
      onCancel={(event) => {
        event.preventDefault();
        onClose?.();
      }}
      onClick={(event) => {
        if (event.target === dialog.current) onClose?.();
      }}
    >
      <div class="dialog-body">
        <div class="dialog-head">
          <h2 id="dialog-title">{title}</h2>
          {onClose && (
            <button class="icon-button" aria-label="Close" onClick={onClose}>
              <Icon name="close" />
            </button>
          )}
        </div>
        {children}
      </div>
    </dialog>
  );
}

function HelpDialog(): JSX.Element {
  const version = useStore(app, (s) => s.info?.version ?? "");
  return (
    <Modal title="Keys and help" onClose={close} wide>
      <div class="help-columns">
        {HELP.map(({ title, rows }) => (
          <section key={title}>
            <h3>{title}</h3>
            <dl>
              {rows.map(({ keys, does }) => (
                <div key={does}>
                  <dt>
                    {keys.map((key) => (
                      <kbd key={key}>{key}</kbd>
                    ))}
                  </dt>
                  <dd>{does}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
      <p class="fine">
        r1seg {version} is for research use only. It is not a medical device, and nothing on this page is a diagnosis. Nothing leaves the machine
        that serves it. <a href="licenses.txt" target="_blank" rel="noreferrer">Licenses of what this page is made of</a>
      </p>
    </Modal>
  );
}

function ForgetDialog(): JSX.Element | null {
  const volume = useStore(app, (s) => s.volume);
  if (!volume) return null;
  return (
    <Modal title="Forget this scan?" onClose={close}>
      <p>
        The server deletes {volume.name}, its masks and its answers now. Otherwise it does so at {clock(volume.expires)}. Your own file stays
        where it is.
      </p>
      <div class="row end">
        <button class="button" onClick={close}>
          Keep
        </button>
        <button class="button danger" onClick={() => void forget()}>
          <Icon name="trash" /> Forget
        </button>
      </div>
    </Modal>
  );
}

function OpenDialog(): JSX.Element {
  return (
    <Modal title="Open another scan" onClose={close}>
      <p class="muted">The questions about this one leave the page. You can also drop files anywhere on it.</p>
      <Invitation small title="Drop a CT here, or choose one" />
    </Modal>
  );
}

function KeyDialog(): JSX.Element {
  const refused = useStore(app, (s) => s.keyRefused);
  const [key, setKey] = useState("");
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  return (
    <Modal title="This server asks for a key">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (key.trim()) void enterKey(key.trim());
        }}
      >
        <p class="muted">Whoever started r1seg serve has it. It stays in this tab and is forgotten when you close it.</p>
        <label class="key-field">
          <Icon name="key" />
          <input
            ref={input}
            type="password"
            autocomplete="off"
            spellcheck={false}
            aria-label="Key"
            aria-invalid={refused}
            aria-describedby={refused ? "key-refused" : undefined}
            value={key}
            onInput={(event) => setKey(event.currentTarget.value)}
          />
        </label>
        {refused && (
          <p id="key-refused" class="error" role="alert">
            <Icon name="alert" /> The server refused this key.
          </p>
        )}
        <div class="row end">
          <button class="button" type="button" onClick={() => void connect()}>
            Try again
          </button>
          <button class="button primary" type="submit" disabled={!key.trim()}>
            Enter
          </button>
        </div>
      </form>
    </Modal>
  );
}
