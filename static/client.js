// A client for any page: it starts a turn, shows its events as they come, picks them up again after a drop, folds them
// into the message, and stops it. No page of ours is needed, and no library.
//
//   import { Client, Fold } from "/client.js";
//   const client = new Client();
//   const message = await client.ask({ sessionId: "a-visitor", content: "Hello!", onEvent: (event, fold) => show(fold.message) });
//
// The shapes of messages, turns, conversations and events are those of /openapi.json; /events.schema.json has those of
// the events by themselves, as a JSON Schema, for whoever checks them or makes types of them.

/** The gateway gives a sign of life every `heartbeat_s`, 10 s by default; silence for so long is a dead connection. */
const SILENCE_MS = 30000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10000;
/** After so long without a sign a page that comes back to the front does not wait for the rest of it. */
const STALE_MS = 12000;
/** After so much work at one go others have theirs. */
const BUSY_MS = 6;
/** Recovery after a crash goes on numbering so much further. */
const LEAP = 1000000;

/** Why the gateway refused something: RFC 9457, as an error. */
export class Problem extends Error {
  /** @param {number} status HTTP's @param {object} problem the body @param {number} retryAfterMs 0 = not told */
  constructor(status, problem, retryAfterMs) {
    super(problem.detail ?? `status ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
    this.field = problem.field;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same request may well be granted later. */
  get passes() {
    return this.status === 429 || this.status >= 500;
  }
}

/** A new idempotency key. `crypto.randomUUID` exists only where the page is secure; random bytes exist everywhere. */
export function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The text of a message's `content`, which is a string or a list of parts. */
export function textOf(content) {
  return typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("");
}

/** Whether a message is not at its end yet. */
export function isOpen(message) {
  return message.status === "running" || message.status === "queued";
}

/** A message, made of the events of its turn. Events it has had already, and types it does not know, change nothing. */
export class Fold {
  /** @param {object} message what is known of it, with the `seq` up to which it is folded */
  constructor(message = {}) {
    this.replace(message, message.seq ?? 0);
  }

  /** Puts a whole message in place of all there was. */
  replace(message, seq) {
    this.message = {
      reasoning: "", status: "running", ...message, content: textOf(message.content), seq,
      steps: [...(message.steps ?? [])], sources: [...(message.sources ?? [])],
      visualizations: [...(message.visualizations ?? [])],
    };
  }

  /** Whether events are missing before this one. */
  misses(event) {
    return event.type !== "snapshot" && event.seq > this.message.seq + 1 && event.seq < LEAP;
  }

  /**
   * Takes one event, and says whether it was new.
   * @param {object} event as it came
   */
  take(event) {
    const { message } = this;
    if (event.type === "snapshot") {
      if (event.seq < message.seq) return false;
      this.replace(event.message, event.seq);
      return true;
    }
    if (event.seq === undefined ? event.type !== "turn.finished" : event.seq <= message.seq) return false;
    message.seq = event.seq ?? message.seq;
    switch (event.type) {
      case "turn.started":
        message.id = event.message_id;
        message.turn_id = event.turn_id;
        message.model = event.model;
        message.status = "running";
        break;
      case "delta": message.content += event.text; break;
      case "reasoning": message.reasoning += event.text; break;
      case "step.started": message.steps.push({ ...event, status: "running" }); break;
      case "step.finished": {
        const at = message.steps.findIndex((step) => step.step_id === event.step_id);
        if (at >= 0) message.steps[at] = { ...message.steps[at], ...event };
        break;
      }
      case "source": message.sources.push(event); break;
      case "usage": message.usage = sum(message.usage, event); break;
      case "visualization": message.visualizations.push(event); break;
      case "turn.finished":
        message.steps = message.steps.map((step) => (step.status === "running" ? { ...step, status: "error" } : step));
        for (const key of ["status", "finish_reason", "error", "stopped_by", "saved", "duration_ms", "first_token_ms"]) {
          if (event[key] !== undefined) message[key] = event[key];
        }
        break;
      default: break;
    }
    return true;
  }
}

/** Until so much time has passed, the network is back, or `signal`. */
export const wait = (ms, signal) => new Promise((done) => {
  const over = () => {
    clearTimeout(timer);
    removeEventListener("online", over);
    signal?.removeEventListener("abort", over);
    done();
  };
  const timer = setTimeout(over, ms);
  addEventListener("online", over);
  signal?.addEventListener("abort", over);
});

/**
 * Does `work` until it is done, or `signal`; gives what it gives. What cannot pass by waiting is thrown as a
 * {@link Problem}; `onWait` hears of what can.
 */
export async function patiently(work, { signal, onWait = () => {} } = {}) {
  for (let pause = FIRST_WAIT_MS; !signal?.aborted; pause = Math.min(pause * 2, LONGEST_WAIT_MS)) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Problem && !error.passes) throw error;
      onWait();
      await wait(Math.max(pause, error.retryAfterMs ?? 0), signal);
    }
  }
  return undefined;
}

/** What two model calls used together: no cost if one is unknown, and an estimate if one is. */
function sum(before, event) {
  const total = { ...before };
  for (const key of ["prompt", "completion", "cached", "cache_write", "reasoning"].map((kind) => `${kind}_tokens`)) {
    if (event[key] !== undefined) total[key] = (total[key] ?? 0) + event[key];
  }
  const known = event.cost_nano_usd !== undefined && (!before || before.cost_nano_usd !== undefined);
  if (known) total.cost_nano_usd = (before?.cost_nano_usd ?? 0) + event.cost_nano_usd;
  else delete total.cost_nano_usd;
  total.basis = before?.basis === "estimated" ? "estimated" : event.basis;
  return total;
}

/** The gateway, as a page sees it. */
export class Client {
  /**
   * @param {string} base where it is; "" = the page's own origin
   * @param {object} headers sent with every request, such as `Authorization`
   */
  constructor(base = "", headers = {}) {
    this.base = base;
    this.headers = headers;
  }

  /** Sends one request. Throws a {@link Problem} unless it is answered by 2xx, and `TypeError` without a network. */
  async send(method, path, { body, headers, signal } = {}) {
    const response = await fetch(this.base + path, {
      method, signal, cache: "no-store", body: body && JSON.stringify(body),
      headers: { ...this.headers, ...(body && { "Content-Type": "application/json" }), ...headers },
    });
    if (response.ok) return response;
    const problem = await response.json().catch(() => ({}));
    throw new Problem(response.status, problem, Number(response.headers.get("Retry-After")) * 1000 || 0);
  }

  /** Sends one request; gives the JSON it is answered with, `null` for 204. */
  async json(method, path, options = {}) {
    const headers = { Accept: "application/json", ...options.headers };
    const response = await this.send(method, path, { ...options, headers });
    return response.status === 204 ? null : response.json();
  }

  /**
   * Conversations, the most recently active first: `{data, next_cursor}`. With `q` those that have these words, each with a
   * `match` that marks them. Archived ones are left out unless asked for.
   */
  conversations({ q = "", cursor = "", limit = 20, archived = false } = {}) {
    const query = new URLSearchParams({
      limit, ...(q && { q }), ...(cursor && { cursor }), ...(archived && { include_archived: 1 }),
    });
    return this.json("GET", `/v1/conversations?${query}`);
  }

  conversation(id) {
    return this.json("GET", `/v1/conversations/${encodeURIComponent(id)}`);
  }

  rename(id, title) {
    return this.json("PATCH", `/v1/conversations/${encodeURIComponent(id)}`, { body: { title } });
  }

  remove(id) {
    return this.json("DELETE", `/v1/conversations/${encodeURIComponent(id)}`);
  }

  /** Puts it away, or fetches it back. */
  archive(id, away = true) {
    return this.json("POST", `/v1/conversations/${encodeURIComponent(id)}/${away ? "archive" : "unarchive"}`);
  }

  /** The newest messages, oldest first: `{data, next_cursor, feed_cursor}`. */
  messages(id, { before = "", limit = 50 } = {}) {
    const query = new URLSearchParams({ limit, ...(before && { before }) });
    return this.json("GET", `/v1/conversations/${encodeURIComponent(id)}/messages?${query}`);
  }

  turn(id) {
    return this.json("GET", `/v1/turns/${encodeURIComponent(id)}`);
  }

  /** Stops a turn; what was said stays. */
  stop(turnId) {
    return this.json("POST", `/v1/turns/${encodeURIComponent(turnId)}/stop`);
  }

  /** Makes a conversation of its first message; gives it, with its `live_turn_id`. One key makes one. */
  begin(content, key, signal) {
    const headers = { "Idempotency-Key": key };
    return this.json("POST", "/v1/conversations", { body: { first_message: content }, headers, signal });
  }

  /**
   * Starts a turn in the background, behind those that run; gives it. One key starts one. It answers the message `parentId`,
   * else the newest.
   */
  start(conversationId, content, key, { parentId, signal } = {}) {
    const headers = { "Idempotency-Key": key, Prefer: "respond-async" };
    const path = `/v1/conversations/${encodeURIComponent(conversationId)}/messages`;
    const body = { content, if_busy: "queue", ...(parentId && { parent_id: parentId }) };
    return this.json("POST", path, { body, headers, signal });
  }

  /** Starts another answer beside one that is there, in the background; gives its turn. One key starts one. */
  regenerate(messageId, key, signal) {
    const headers = { "Idempotency-Key": key, Prefer: "respond-async" };
    const path = `/v1/messages/${encodeURIComponent(messageId)}/regenerate`;
    return this.json("POST", path, { body: {}, headers, signal });
  }

  /**
   * Asks and follows the answer to its end, over any number of connections; gives the message. However often it has to
   * be sent, the model is asked once. `onEvent(event, fold)` hears each event, `onState` what {@link Client#follow} says.
   */
  async ask({ sessionId, content, key = freshKey(), ...hearers }) {
    const body = { message: content, session_id: sessionId };
    const first = async ({ headers, signal }) => {
      const keyed = { body, signal, headers: { ...headers, "Idempotency-Key": key } };
      return this.send("POST", "/v1/chat/stream", keyed);
    };
    return this.#turn(new Fold(), hearers, first);
  }

  /** Follows a turn from the message as it is known: to its end, which it gives. */
  async resume(message, hearers = {}) {
    return this.#turn(new Fold(message), hearers);
  }

  /** Follows the turn of a fold to its end; `first` opens it as long as it is not known which. */
  async #turn(fold, { signal, onEvent = () => {}, onState }, first) {
    let turnId = fold.message.turn_id;
    const take = (event) => { if (fold.take(event)) onEvent(event, fold); };
    const open = async (options) => {
      const path = `/v1/turns/${encodeURIComponent(turnId)}/events?after=${fold.message.seq}`;
      const response = await (turnId ? this.send("GET", path, options) : first(options));
      turnId ??= response.headers.get("Turn-Id");
      return response;
    };
    const onNothing = async () => {
      const turn = turnId && await this.turn(turnId);
      if (turn?.finished_at) take({ type: "snapshot", seq: turn.seq, message: turn.message });
    };
    await this.follow({ open, signal, onState, onEvent: take, onNothing, isOver: () => !isOpen(fold.message) });
    return fold.message;
  }

  /** Follows a conversation after `cursor`, every turn of it whoever starts it, until it is deleted or `signal`. */
  async feed(conversationId, { cursor, signal, onEvent, onState }) {
    let [at, over] = [cursor, false];
    const open = (options) => {
      const after = at ? `?after=${encodeURIComponent(at)}` : "";
      return this.send("GET", `/v1/conversations/${encodeURIComponent(conversationId)}/events${after}`, options);
    };
    const take = (event) => {
      at = event.cursor ?? at;
      over ||= event.type === "conversation.deleted";
      onEvent(event);
    };
    await this.follow({ open, signal, onState, onEvent: take, isOver: () => over });
  }

  /**
   * Reads one stream over any number of connections, until `isOver()` or `signal`. `onState` hears `live` when a
   * connection stands and `reconnecting` when it was lost. What cannot pass by waiting is thrown as a {@link Problem}.
   */
  async follow({ open, signal, onEvent, onState = () => {}, isOver, onNothing = async () => {} }) {
    let pause = FIRST_WAIT_MS;
    while (!isOver() && !signal?.aborted) {
      const abort = new AbortController();
      const leave = () => abort.abort();
      let heard = Date.now();
      const woken = () => { if (!document.hidden && Date.now() - heard > STALE_MS) leave(); };
      signal?.addEventListener("abort", leave);
      addEventListener("online", leave); // What was open before is of the network that is gone.
      globalThis.document?.addEventListener("visibilitychange", woken); // So it may be after a sleep.
      let told = 0;
      try {
        const response = await open({ headers: { Accept: "application/x-ndjson" }, signal: abort.signal });
        onState("live");
        let came = false;
        await readLines(response, abort, (event) => {
          if (signal?.aborted) return;
          heard = Date.now();
          if (event.type === "closed") told = event.retry_after_ms ?? 0;
          else pause = FIRST_WAIT_MS;
          came ||= event.seq !== undefined;
          if (event.type !== "ping" && event.type !== "closed") onEvent(event);
        });
        if (!came) await onNothing();
      } catch (error) {
        if (error instanceof Problem && !error.passes) throw error;
        told = error.retryAfterMs ?? 0;
      } finally {
        signal?.removeEventListener("abort", leave);
        removeEventListener("online", leave);
        globalThis.document?.removeEventListener("visibilitychange", woken);
      }
      if (isOver() || signal?.aborted) return;
      onState("reconnecting");
      await wait(Math.max(pause, told) * (0.5 + Math.random() / 2), signal);
      pause = Math.min(pause * 2, LONGEST_WAIT_MS);
    }
  }
}

/** Reads lines of JSON until the end, the abort, or silence. */
async function readLines(response, abort, onEvent) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const timer = setTimeout(() => abort.abort(), SILENCE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    let since = performance.now();
    for (const line of lines) {
      if (line) onEvent(JSON.parse(line));
      if (performance.now() - since < BUSY_MS) continue;
      await new Promise((done) => setTimeout(done)); // The page has other things to do.
      since = performance.now();
    }
  }
}
