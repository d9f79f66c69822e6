// The way to the server: what it is, what it serves, and whether it wants a key.

import { client } from "../api/client";
import { asProblem } from "../api/errors";
import { announce, app } from "./app";

export async function connect(): Promise<void> {
  app.set({ connection: "connecting", problem: null });
  try {
    const info = await client.info();
    app.set({ info });
    if (info.key_required && !client.hasKey()) {
      app.set({ connection: "key" });
      return;
    }
    const models = await client.models();
    const known = app.get().model;
    const model = models.find((m) => m.id === known) ?? models[0] ?? null;
    app.set({ models, model: model?.id ?? null, mode: null, connection: "open", keyRefused: false });
  } catch (error) {
    lost(error);
  }
}

/** Turns a failure of the way itself into a state of the page; true where it was one. */
export function lost(error: unknown): boolean {
  const problem = asProblem(error);
  if (!problem) return true;
  if (problem.kind === "key") {
    app.set({ connection: "key", keyRefused: client.hasKey(), problem });
    client.setKey(null);
    announce("The server refused the key.");
    return true;
  }
  if (problem.kind === "gone" || app.get().connection === "connecting") {
    app.set({ connection: "gone", problem });
    announce(problem.message);
    return true;
  }
  return false;
}

export async function enterKey(key: string): Promise<void> {
  client.setKey(key);
  await connect();
}

export function chooseModel(id: string): void {
  app.set({ model: id, mode: null, refineWith: null, tool: "look" });
}
