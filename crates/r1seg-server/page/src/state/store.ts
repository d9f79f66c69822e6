// A value that changes, and who wants to know.

import { useEffect, useState } from "preact/hooks";

export class Store<T extends object> {
  private readonly listeners = new Set<() => void>();

  constructor(private value: T) {}

  get(): T {
    return this.value;
  }

  set(patch: Partial<T> | ((value: T) => Partial<T>)): void {
    const change = typeof patch === "function" ? patch(this.value) : patch;
    this.value = { ...this.value, ...change };
    for (const listener of [...this.listeners]) listener();
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

/** What `select` takes out of a store; renders again when that changes. */
export function useStore<T extends object, S>(store: Store<T>, select: (value: T) => S): S {
  const [, render] = useState(0);
  const selected = select(store.get());
  useEffect(() => {
    let last = selected;
    const check = (): void => {
      const now = select(store.get());
      if (Object.is(now, last)) return;
      last = now;
      render((n) => n + 1);
    };
    check();
    return store.subscribe(check);
  }, [store]);
  return selected;
}
