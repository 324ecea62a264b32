// The chat page. It asks, shows the answer as it comes, and picks it up again after a drop or a reload.
// Text only ever becomes text nodes.

const IDLE_MS = 30000; // The gateway gives a sign of life every few seconds; silence for so long is a dead connection.
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10000;

const byId = (id) => document.getElementById(id);
const log = byId("log");
const note = (text) => { byId("note").textContent = text; };

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// randomUUID exists only where the page is secure; random bytes exist everywhere.
function fresh() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

let sessionId = localStorage.getItem("tidegate.session");
function newSession() {
  sessionId = `web-${fresh()}`;
  localStorage.setItem("tidegate.session", sessionId);
}
if (!sessionId) newSession();

/** What is shown of one answer: the fold of its events. */
class Answer {
  constructor() {
    this.root = element("article", "bot running");
    this.text = element("div", "text");
    log.append(this.root);
    this.clear();
  }

  clear() {
    this.seq = 0;
    this.ended = false;
    this.text.replaceChildren(document.createTextNode(""));
    this.steps = new Map();
    this.stepList = null;
    this.sourceList = null;
    this.reasoningText = null;
    this.root.replaceChildren(this.text);
  }

  say(text) {
    this.text.firstChild.appendData(text);
  }

  think(text) {
    if (!this.reasoningText) {
      const details = element("details", "");
      this.reasoningText = document.createTextNode("");
      const box = element("div", "reasoning");
      box.append(this.reasoningText);
      details.append(element("summary", "", "Reasoning"), box);
      this.root.prepend(details);
    }
    this.reasoningText.appendData(text);
  }

  step(step) {
    if (!this.stepList) {
      const details = element("details", "");
      this.stepList = element("ul", "");
      details.append(element("summary", "", "Steps"), this.stepList);
      this.root.prepend(details);
    }
    const parent = this.steps.get(step.parent_id);
    let list = this.stepList;
    if (parent) {
      list = parent.item.querySelector("ul") ?? parent.item.appendChild(element("ul", ""));
    }
    const item = element("li", "");
    const label = element("span", "", `${step.label} …`);
    item.append(label);
    list.append(item);
    this.steps.set(step.step_id, { item, label, text: step.label });
    if (step.status && step.status !== "running") this.stepDone(step);
    for (const child of step.children ?? []) this.step({ ...child, parent_id: step.step_id });
  }

  stepDone(step) {
    const known = this.steps.get(step.step_id);
    if (!known) return;
    known.done = true;
    const took = step.duration_ms === undefined ? "" : ` · ${step.duration_ms} ms`;
    known.label.textContent = `${known.text} · ${step.status}${took}`;
    known.item.classList.toggle("error", step.status === "error");
  }

  source(source) {
    if (!this.sourceList) {
      this.sourceList = element("ol", "sources");
      this.root.append(this.sourceList);
    }
    const item = element("li", "");
    item.value = source.number;
    item.title = source.snippet ?? "";
    if (/^https?:\/\//i.test(source.url ?? "")) {
      const link = element("a", "", source.title || source.url);
      link.href = source.url;
      link.rel = "noopener noreferrer";
      link.target = "_blank";
      item.append(link);
    } else {
      item.textContent = source.title;
    }
    this.sourceList.append(item);
  }

  visualize(visualization) {
    const { columns = [], rows = [] } = visualization.spec ?? {};
    const table = element("table", "");
    table.append(element("caption", "", visualization.title));
    const head = table.createTHead().insertRow();
    for (const column of columns) head.append(element("th", "", column.label ?? column.key));
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      for (const column of columns) line.append(element("td", column.type, String(row[column.key] ?? "")));
    }
    this.root.append(table);
  }

  // A whole message in place of everything shown so far.
  replace(message) {
    this.clear();
    this.seq = message.seq ?? 0;
    if (message.reasoning) this.think(message.reasoning);
    for (const step of message.steps ?? []) this.step(step);
    const content = message.text ?? message.content ?? "";
    this.say(typeof content === "string" ? content : content.map((part) => part.text ?? "").join(""));
    for (const source of message.sources ?? []) this.source(source);
    const tables = message.visualizations ?? (message.visualization ? [message.visualization] : []);
    for (const visualization of tables) this.visualize(visualization);
    if (message.status && message.status !== "running" && message.status !== "queued") this.end(message);
  }

  end({ status, error, saved }) {
    this.ended = true;
    this.root.classList.remove("running");
    for (const [stepId, { done }] of this.steps) {
      if (!done) this.stepDone({ step_id: stepId, status: "error" });
    }
    if (status && status !== "completed") {
      const why = error ? `${status}: ${error.message}` : status;
      this.root.append(element("div", "end", why));
    }
    if (saved === false) this.root.append(element("div", "end", "not saved yet"));
  }

  // One event of the stream.
  take(event) {
    if (event.type === "snapshot") {
      this.replace({ ...event.message, seq: event.seq });
      return;
    }
    if (event.seq !== undefined) {
      if (event.seq <= this.seq) return; // Seen before the drop.
      this.seq = event.seq;
    }
    switch (event.type) {
      case "delta": this.say(event.text); break;
      case "reasoning": this.think(event.text); break;
      case "step.started": this.step(event); break;
      case "step.finished": this.stepDone(event); break;
      case "source": this.source(event); break;
      case "visualization": this.visualize(event); break;
      case "turn.finished": this.end(event); break;
      default: break; // A type this page does not know.
    }
  }
}

// One button at a time: what can be done now. Whoever only listens hears the note, not each word.
function show(running, said) {
  byId("send").hidden = running;
  byId("stop").hidden = !running;
  note(said);
}

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

/** Reads lines of JSON until the end, the abort, or silence. */
async function readLines(response, abort, onEvent) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const timer = setTimeout(() => abort.abort(), IDLE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) onEvent(JSON.parse(line));
  }
}

let current = null; // The turn on show: { turnId }.

/**
 * Follows one turn to its end, over any number of connections. `start` opens the first; a turn that is known is
 * resumed after the last seq seen, and one that is not is asked for again under the same key, which costs nothing.
 */
async function follow(answer, turnId, start) {
  const mine = { turnId };
  current = mine;
  show(true, "Answering…");
  let pause = FIRST_WAIT_MS;
  while (!answer.ended && current === mine) {
    const abort = new AbortController();
    try {
      const response = mine.turnId
        ? await fetch(`/v1/turns/${encodeURIComponent(mine.turnId)}/events?after=${answer.seq}`, {
          headers: { Accept: "application/x-ndjson" }, signal: abort.signal, cache: "no-store",
        })
        : await start(abort.signal);
      if (response.status === 429 || response.status >= 500) {
        const after = Number(response.headers.get("Retry-After"));
        if (mine.turnId || response.status === 503) {
          pause = Math.max(pause, after * 1000 || 0);
          throw new Error(`status ${response.status}`);
        }
      }
      if (!response.ok) {
        const problem = await response.json().catch(() => ({}));
        answer.refused = true;
        answer.end({ status: "refused", error: { message: problem.detail ?? `status ${response.status}` } });
        break;
      }
      mine.turnId = response.headers.get("Turn-Id") ?? mine.turnId;
      note("Answering…");
      let told = 0;
      let came = 0;
      await readLines(response, abort, (event) => {
        if (current !== mine) { abort.abort(); return; }
        if (event.type === "closed") told = event.retry_after_ms ?? 0;
        else if (event.seq !== undefined || event.type === "ping") pause = FIRST_WAIT_MS;
        if (event.type === "turn.started") mine.turnId = event.turn_id;
        const below = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
        answer.take(event);
        came += 1;
        if (below) log.scrollTop = log.scrollHeight;
      });
      if (answer.ended) break;
      // Nothing after the last seq of an ended turn: its end was seen in the history already.
      if (came === 0 && mine.turnId && answer.seq > 0) {
        const turn = await fetch(`/v1/turns/${encodeURIComponent(mine.turnId)}`).then((got) => got.json());
        if (turn.finished_at) { answer.replace(turn.message); break; }
      }
      pause = Math.max(pause, told);
    } catch (error) {
      if (current !== mine) return;
    }
    note("The connection dropped; picking it up again…");
    await wait(pause * (0.5 + Math.random() / 2));
    pause = Math.min(pause * 2, LONGEST_WAIT_MS);
  }
  if (current === mine) {
    current = null;
    show(false, "");
  }
}

function showUser(text) {
  const article = element("article", "user");
  article.append(element("div", "text", text));
  log.append(article);
  log.scrollTop = log.scrollHeight;
}

async function ask(message) {
  showUser(message);
  const key = fresh(); // One key a question: however often it is sent, the model is asked once.
  const body = JSON.stringify({ message, session_id: sessionId });
  const headers = { "Content-Type": "application/json", Accept: "application/x-ndjson", "Idempotency-Key": key };
  const answer = new Answer();
  await follow(answer, null, (signal) => fetch("/v1/chat/stream", { method: "POST", headers, body, signal }));
  const box = byId("message");
  if (answer.refused && !box.value) box.value = message; // What was typed is not lost.
}

async function showHistory() {
  const response = await fetch(`/v1/chat/${encodeURIComponent(sessionId)}/history`).catch(() => null);
  if (!response?.ok) return;
  const { messages } = await response.json();
  const shown = sessionId;
  const running = [];
  for (const message of messages) {
    if (message.sender === "user") {
      showUser(message.text);
      continue;
    }
    const answer = new Answer();
    answer.replace(message);
    if (!answer.ended && message.turn_id) running.push([answer, message.turn_id]);
    else if (!answer.ended) answer.end({});
  }
  log.scrollTop = log.scrollHeight;
  // One after the other: those behind the first are queued.
  for (const [answer, turnId] of running) {
    if (sessionId === shown) await follow(answer, turnId);
  }
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const message = byId("message").value;
  if (!message.trim() || current) return;
  byId("message").value = "";
  ask(message);
});

byId("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
    event.preventDefault(); // 229: Safari's Enter that ends a composition.
    byId("ask").requestSubmit();
  } else if (event.key === "Escape" && current) {
    byId("stop").click();
  }
});

byId("stop").addEventListener("click", async () => {
  if (!current?.turnId) return;
  await fetch(`/v1/turns/${encodeURIComponent(current.turnId)}/stop`, { method: "POST" }).catch(() => null);
});

byId("reset").addEventListener("click", async () => {
  current = null;
  show(false, "");
  await fetch(`/v1/chat/${encodeURIComponent(sessionId)}`, { method: "DELETE" }).catch(() => null);
  newSession();
  log.replaceChildren();
  note("");
  byId("message").focus();
});

showHistory();
