// The chat page: one conversation at a time, and the list of all. What is shown comes from the conversation's record and
// its feed, whoever asked; what is asked goes through the outbox.

import { Client, Problem, isOpen, textOf } from "/client.js";
import { Shared } from "/static/browser.js";
import { button, element } from "/static/element.js";
import { List } from "/static/list.js";
import { Answer, Question } from "/static/message.js";
import { Outbox } from "/static/outbox.js";
import { language, say } from "/static/words.js";

const NEAR_PX = 60;
const RETRY_MS = 1500;

const byId = (id) => document.getElementById(id);
const log = byId("log");
const box = byId("message");
const client = new Client();
let talk = null;

/** Whether what comes is followed: until somebody scrolls up, and again at the bottom. */
let follows = true;
let top = 0;
const settle = () => {
  const near = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_PX;
  // What grows below moves the end away; only going up says that somebody reads elsewhere.
  follows = near || (follows && log.scrollTop >= top);
  top = log.scrollTop;
  byId("latest").hidden = follows;
};
const follow = () => {
  settle(); // The event of a scroll may be still to come.
  if (!follows) return;
  log.scrollTop = log.scrollHeight;
  top = log.scrollTop;
};
const note = (text) => { if (byId("note").textContent !== text) byId("note").textContent = text; };

/** A conversation on show. */
class Talk {
  /** @param {string | null} id none = it is made by its first question */
  constructor(id) {
    Object.assign(this, { id, views: new Map(), unsent: new Map(), at: [0, 0], earlier: null, closed: false, state: "live" });
  }

  /** Shows it, and follows it until it is closed. */
  async open() {
    if (this.id) {
      this.early = [];
      this.shared = new Shared(this.id, {
        read: (signal, tell) => {
          let events = null; // What comes at once is told at once.
          return client.feed(this.id, {
            cursor: this.at.join("."), signal,
            onEvent: (event) => {
              if (!events) {
                events = [];
                queueMicrotask(() => { tell({ events }); events = null; });
              }
              events.push(event);
            },
            onState: (state) => tell({ state }),
          });
        },
        onTold: (word) => (this.early ? this.early.push(word) : this.hear(word)),
      });
    }
    try {
      const found = this.id && await this.load();
      if (this.closed) return;
      if (found) named(found.title);
      this.early?.forEach((word) => this.hear(word));
      this.early = null;
      await this.shared?.listen();
    } catch (error) {
      if (this.closed) return;
      this.gone(error instanceof Problem && error.status === 404 ? say.gone : error.message);
    }
  }

  close() {
    this.closed = true;
    this.shared?.close();
  }

  gone(why) {
    this.close();
    log.append(element("p", "end", why));
    byId("ask").hidden = true;
    note(why);
  }

  /** Reads the record, again and again until it can be read. */
  async load() {
    while (!this.closed) {
      try {
        const [found, page] = [await client.conversation(this.id), await client.messages(this.id)];
        if (this.closed) return null;
        if (!this.shown) log.replaceChildren();
        this.shown = true;
        if (this.earlier === null) this.page(page.next_cursor);
        this.merge(page.data);
        for (const item of outbox.items) if (item.conversationId === this.id) this.expect(item);
        const [number, seq] = page.feed_cursor.split(".").map(Number);
        if (number > this.at[0] || (number === this.at[0] && seq > this.at[1])) this.at = [number, seq];
        return found;
      } catch (error) {
        if (error instanceof Problem && !error.passes) throw error;
        this.become("reconnecting");
        await new Promise((done) => setTimeout(done, RETRY_MS));
      }
    }
    return null;
  }

  /** Offers what is older. */
  page(cursor) {
    this.earlier?.remove?.();
    this.earlier = cursor ? button("earlier", say.earlier, async () => {
      const page = await client.messages(this.id, { before: cursor }).catch(() => null);
      if (!page || this.closed) return;
      const height = log.scrollHeight;
      this.page(page.next_cursor);
      this.merge(page.data, log.querySelector("article"));
      log.scrollTop += log.scrollHeight - height;
    }) : false;
    if (this.earlier) log.prepend(this.earlier);
  }

  /** Shows messages, oldest first, each in its place: before the next that is known, the last of them before `next`. */
  merge(messages, next = [...this.unsent.values()][0]?.root ?? null) {
    for (const message of [...messages].reverse()) {
      const view = this.views.get(message.id);
      if (!view) log.insertBefore(this.view(message).root, next);
      else if (message.role === "assistant") {
        view.stamp(message.created_at);
        const known = view.message;
        const news = message.seq > known.seq || message.status !== known.status;
        if (news) view.take({ type: "snapshot", seq: message.seq, message });
      }
      next = this.views.get(message.id).root;
    }
    this.look();
  }

  view(message) {
    const shown = message.role === "user"
      ? new Question({ ...message, content: textOf(message.content) })
      : new Answer(message, { onGrown: follow, onAgain: () => this.again(message.id) });
    this.views.set(message.id, shown);
    return shown;
  }

  /** Asks once more what led to an answer; that stays. */
  again(answerId) {
    const question = this.views.get(this.views.get(answerId).message.parent_id);
    if (question) this.ask(question.message.content);
  }

  ask(content) {
    [follows, top] = [true, 0];
    const first = [...this.unsent.keys()][0];
    this.expect(outbox.add(this.id, content, this.id ? undefined : first));
  }

  /** Shows a question that is still to be sent. */
  expect(item) {
    if (this.unsent.has(item.key)) return;
    byId("start")?.remove();
    const question = new Question({ content: item.content });
    this.unsent.set(item.key, question);
    log.append(question.root);
    this.look();
  }

  /** What became of a question. */
  told({ item, conversationId, turn, refused }) {
    const question = this.unsent.get(item.key);
    if (!question) return;
    this.unsent.delete(item.key);
    if (refused) {
      question.refuse(refused);
      if (!box.value) box.value = item.content; // What was typed is not lost.
      note(`${say.refused}: ${refused}`);
    } else if (!this.id) {
      list.changed();
      location.hash = conversationId;
      return;
    } else if (this.views.has(turn.message.parent_id)) {
      question.root.remove(); // The feed was faster.
    } else {
      question.sent(true);
      question.stamp(turn.created_at);
      question.message = { ...question.message, id: turn.message.parent_id, created_at: turn.created_at };
      this.views.set(turn.message.parent_id, question);
      const answer = this.answer(turn.id);
      if (answer) answer.root.before(question.root); // It has begun already.
    }
    if (turn) this.merge([turn.message]);
    list.changed();
    this.look();
  }

  /** What the feed says, to this tab or another. */
  hear({ events = [], state, look }) {
    if (look) this.load().catch(() => null);
    if (state) this.become(state);
    for (const event of events) if (!this.closed) this.take(event);
  }

  take(event) {
    if (event.type === "conversation.deleted") { list.load(); this.gone(say.gone); return; }
    if (event.type === "conversation.updated") { named(event.conversation.title); list.load(); return; }
    if (!event.turn_id) return;
    const [number, seq] = (event.cursor ?? "").split(".").map(Number);
    if (event.cursor) {
      if (number < this.at[0] || (number === this.at[0] && seq <= this.at[1])) return;
      this.at = [number, seq];
    }
    const id = event.message_id ?? event.message?.id;
    const answer = this.answer(event.turn_id) ?? (id && this.begin(id, event));
    if (answer && !answer.fold.misses(event)) answer.take(event);
    else this.load().catch(() => null);
    if (event.type === "turn.started" && !this.views.has(event.user_message_id)) this.load().catch(() => null);
    if (event.type === "turn.started" || event.type === "turn.finished" || event.type === "snapshot") {
      if (event.type !== "snapshot") list.load();
      this.look();
    }
  }

  answer(turnId) {
    return [...this.views.values()].findLast((view) => view instanceof Answer && view.message.turn_id === turnId);
  }

  begin(id, event) {
    const view = this.view({ id, role: "assistant", turn_id: event.turn_id, parent_id: event.user_message_id, seq: 0 });
    log.insertBefore(view.root, [...this.unsent.values()][0]?.root ?? null);
    return view;
  }

  /** The answer that runs, else the first that waits. */
  get live() {
    const open = [...this.views.values()].filter((view) => view instanceof Answer && isOpen(view.message));
    return open.find((view) => view.message.status === "running") ?? open[0];
  }

  become(state) {
    this.state = state;
    this.look();
  }

  /** Shows what can be done now, and how things stand. */
  look() {
    if (talk !== this || this.closed) return;
    const { live } = this;
    byId("send").hidden = Boolean(live);
    byId("stop").hidden = !live;
    const state = navigator.onLine ? (this.state === "live" && !live ? "caught up" : this.state) : "offline";
    byId("state").textContent = say[state];
    byId("state").dataset.state = state;
    if (live) note(live.message.status === "queued" ? say.queued : say.answering);
    else if (this.lively) note(say[this.lively.message.status] ?? say.done);
    this.lively = live;
    follow();
  }
}

/** What an empty page offers. */
function start() {
  const actions = say.actions.map((action) => button("action", action, () => talk.ask(action)));
  const made = element("div", "", element("p", "", say.empty), ...actions);
  made.id = "start";
  return made;
}

function named(title) {
  byId("title").textContent = title;
  document.title = `${title} · ${say.title}`;
}

/** Opens what the address names. */
function route() {
  const id = /^#(conv_[0-9a-f]{32})$/.exec(location.hash)?.[1] ?? null;
  if (talk && talk.id === id && !talk.closed) return;
  talk?.close();
  talk = new Talk(id);
  [follows, top] = [true, 0];
  note("");
  byId("ask").hidden = false;
  byId("side").classList.remove("shown");
  byId("menu").setAttribute("aria-expanded", "false");
  if (!id) {
    log.replaceChildren(start());
    named(say.newConversation);
    for (const item of outbox.items) if (!item.conversationId) talk.expect(item);
  }
  list.mark(id);
  talk.look();
  talk.open();
}

const list = new List(client, byId("list"), (id) => { if (talk.id === id) location.hash = ""; });
const outbox = new Outbox(client, (word) => talk.told(word));

// The words of the page, where the document has them in English.
document.documentElement.lang = language;
for (const [id, text] of [["new", say.newConversation], ["send", say.send], ["stop", say.stop], ["latest", say.latest],
  ["label", say.message], ["api", say.api]]) byId(id).textContent = text;
box.placeholder = say.ask;
for (const id of ["side", "menu"]) byId(id).setAttribute("aria-label", say.conversations);
log.setAttribute("aria-label", say.messages);

function grow() {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!box.value.trim() || talk.live) return;
  talk.ask(box.value);
  box.value = "";
  grow();
});

const stop = () => {
  const turnId = talk.live?.message.turn_id;
  if (turnId) client.stop(turnId).catch(() => null);
};

box.addEventListener("input", grow);
box.addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229) return; // 229: Safari's Enter that ends a composition.
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    byId("ask").requestSubmit();
  } else if (event.key === "ArrowUp" && !box.value) {
    const asked = [...log.querySelectorAll("article.user .text")].at(-1);
    if (asked) box.value = asked.textContent;
    grow();
  }
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && !event.target.closest?.("dialog, #side")) stop();
});
byId("stop").addEventListener("click", stop);
byId("new").addEventListener("click", () => { location.hash = ""; box.focus(); });
byId("latest").addEventListener("click", () => {
  [follows, top] = [true, 0];
  follow();
});
byId("menu").addEventListener("click", () => {
  byId("menu").setAttribute("aria-expanded", String(byId("side").classList.toggle("shown")));
});
log.addEventListener("scroll", settle);

addEventListener("hashchange", route);
for (const name of ["online", "offline"]) addEventListener(name, () => talk.look());
addEventListener("resize", follow);
// A page that goes into the browser's cache holds no stream, and looks again when it comes back.
addEventListener("pagehide", () => talk.close());
addEventListener("pageshow", (event) => { if (event.persisted) route(); });

route();
list.load();
outbox.flush();
document.documentElement.dataset.ready = "true";
