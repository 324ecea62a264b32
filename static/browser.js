// What tabs of one browser share: what is kept, who speaks, and who listens to the gateway for all.

import { wait } from "/client.js";

/** How many streams one browser holds: HTTP/1.1 gives it six connections, and requests need some. */
const STREAMS = 4;
/** How often a tab looks at the record that found no stream left. */
const POLL_MS = 2000;

/** localStorage, or the tab's own memory for what is refused there. */
export const kept = {
  memory: new Map(),
  read(name, otherwise) {
    if (this.memory.has(name)) return this.memory.get(name);
    try {
      return JSON.parse(localStorage.getItem(name)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  /** Forgets all of ours. */
  clear() {
    this.memory.clear();
    try {
      Object.keys(localStorage).filter((name) => name.startsWith("tidegate.")).forEach((name) => localStorage.removeItem(name));
    } catch {
      // There was nothing to forget.
    }
  },
  write(name, value) {
    try {
      localStorage.setItem(name, JSON.stringify(value));
      this.memory.delete(name);
    } catch {
      this.memory.set(name, value);
    }
  },
};

/** Does `work` while no other tab does what has this name. Without locks (a page that is not secure) each tab does. */
export function alone(name, work, signal) {
  return navigator.locks ? navigator.locks.request(name, { signal }, work) : work();
}

/**
 * Hears the feed of a conversation, which one tab reads and tells the others. `read(signal, tell)` reads it until
 * `signal`; `onTold` hears what any tab's `read` told, and `{look: true}` now and then where there is no stream left.
 */
export class Shared {
  constructor(conversationId, { read, onTold }) {
    Object.assign(this, { read, onTold, abort: new AbortController() });
    this.name = `tidegate.feed.${conversationId}`;
    this.channel = new BroadcastChannel(this.name);
    this.channel.addEventListener("message", ({ data }) => onTold(data));
  }

  /** Listens until it is closed; what ends it otherwise is thrown. */
  async listen() {
    const { signal } = this.abort;
    try {
      await alone(this.name, () => this.lead(signal), signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async lead(signal) {
    const tell = (word) => {
      if (signal.aborted) return;
      this.channel.postMessage(word);
      this.onTold(word); // The last, for it may close this.
    };
    if (!navigator.locks) return this.read(signal, tell);
    while (!signal.aborted) {
      for (let slot = 0; slot < STREAMS; slot += 1) {
        const had = await navigator.locks.request(`tidegate.stream.${slot}`, { ifAvailable: true }, async (lock) => {
          if (lock) await this.read(signal, tell);
          return Boolean(lock);
        });
        if (had) return undefined;
      }
      tell({ look: true });
      await wait(POLL_MS, signal);
    }
    return undefined;
  }

  close() {
    this.abort.abort();
    this.channel.close();
  }
}
