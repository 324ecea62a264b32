// The chat page: one conversation at a time, and the list of all. What is shown comes from the conversation's record and
// its feed, whoever asked; what is asked goes through the outbox.

import { Client, freshKey, isOpen, patiently, textOf } from "/client.js";
import { Shared } from "/static/browser.js";
import { Branches } from "/static/branches.js";
import { button, element } from "/static/element.js";
import { List } from "/static/list.js";
import { Answer, Question } from "/static/message.js";
import { Outbox } from "/static/outbox.js";
import { Session } from "/static/session.js";
import { language, say } from "/static/words.js";

const NEAR_PX = 60;

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
const stick = () => {
  [follows, top] = [true, 0];
  follow();
};
const note = (text) => { if (byId("note").textContent !== text) byId("note").textContent = text; };

/** A conversation on show. */
class Talk {
  /** @param {string | null} id none = it is made by its first question */
  constructor(id) {
    Object.assign(this, {
      id, at: [0, 0], state: "live", closed: false, earlier: null,
      views: new Map(), // Questions and answers, by the message's id.
      answers: new Map(), // The answers, by the turn's.
      unsent: new Map(), // Questions the gateway does not have, by their keys.
      editing: null, // The message that an edited question answers.
    });
    this.branches = new Branches(this.views, log);
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
      this.gone(error.status === 404 ? say.gone : error.message);
      if (error.status === 401 || error.code === "forbidden") session.ask(error.message);
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

  /** Reads the record, again and again until it can be read; gives the conversation. */
  async load() {
    const read = async () => [await client.conversation(this.id), await client.messages(this.id)];
    const onWait = () => this.become("reconnecting");
    const [found, page] = await patiently(read, { onWait, signal: this.shared.abort.signal }) ?? [];
    if (!found || this.closed) return null;
    if (!this.shown) log.replaceChildren();
    this.shown = true;
    if (this.earlier === null) this.page(page.next_cursor);
    this.merge(page.data);
    for (const item of outbox.items) if (item.conversationId === this.id) this.expect(item);
    const [number, seq] = page.feed_cursor.split(".").map(Number);
    if (number > this.at[0] || (number === this.at[0] && seq > this.at[1])) this.at = [number, seq];
    return found;
  }

  /** Reads the record because something is missing; what is found missing meanwhile is one more time, however much it is. */
  async reload() {
    this.missing = true;
    if (this.loading) return;
    this.loading = true;
    while (this.missing) {
      this.missing = false;
      await this.load().catch(() => null); // Where it is gone the feed says so.
    }
    this.loading = false;
  }

  /** Offers what is older. */
  page(cursor) {
    this.earlier?.remove?.();
    this.earlier = cursor ? button("earlier", say.earlier, async () => {
      const page = await client.messages(this.id, { before: cursor }).catch(() => null);
      if (!page || this.closed) return;
      const height = log.scrollHeight;
      this.page(page.next_cursor);
      this.merge(page.data);
      log.scrollTop += log.scrollHeight - height;
    }) : false;
    if (this.earlier) log.prepend(this.earlier);
  }

  /** Shows messages, as far as they are on the branch that is shown. */
  merge(messages) {
    for (const message of messages) {
      const view = this.views.get(message.id);
      if (!view) this.view(message);
      else if (message.role === "assistant") {
        view.stamp(message.created_at);
        const known = view.message;
        const news = message.seq > known.seq || message.status !== known.status;
        if (news) view.take({ type: "snapshot", seq: message.seq, message });
      } else view.message.parent_id = message.parent_id;
    }
    this.branches.arrange(this.firstUnsent);
    this.look();
  }

  view(message) {
    const shown = message.role === "user"
      ? new Question({ ...message, content: textOf(message.content) }, { onEdit: (question) => this.edit(question) })
      : new Answer(message, { onGrown: follow, onAgain: () => this.again(message.id) });
    this.views.set(message.id, shown);
    if (shown instanceof Answer) this.answers.set(message.turn_id, shown);
    return shown;
  }

  /** The element that answers stand before. */
  get firstUnsent() {
    return this.unsent.values().next().value?.root ?? null;
  }

  /** Asks for another answer beside one that is there. */
  async again(answerId) {
    if (this.live || this.unsent.size || this.asking) return; // A second click is no second question.
    this.asking = true;
    stick();
    const key = freshKey();
    try {
      const turn = await patiently(() => client.regenerate(answerId, key));
      if (!this.closed && !this.views.has(turn.message.id)) {
        this.branches.leaf = null;
        this.merge([turn.message]);
      }
      list.changed();
    } catch (error) {
      note(`${say.refused}: ${error.message}`);
    }
    this.asking = false;
  }

  /** Has a question asked otherwise: what is sent next stands beside it. */
  edit(question) {
    this.editing = question.message.parent_id;
    box.value = question.message.content;
    grow();
    box.focus();
    this.look();
  }

  ask(content) {
    stick();
    const parentId = this.editing ?? (this.unsent.size ? null : this.branches.chosen);
    this.editing = null;
    this.branches.leaf = null;
    this.expect(outbox.add(this.id, content, { after: this.id ? undefined : this.unsent.keys().next().value, parentId }));
  }

  /** Shows a question that is still to be sent. */
  expect(item) {
    if (this.unsent.has(item.key)) return;
    byId("start")?.remove();
    const question = new Question({ content: item.content }, { onEdit: (known) => this.edit(known) });
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
      return;
    }
    list.changed();
    if (!this.id) {
      location.hash = conversationId;
      return;
    }
    if (this.views.has(turn.message.parent_id)) {
      question.root.remove(); // The feed was faster.
    } else {
      question.sent(true);
      question.stamp(turn.created_at);
      const parentId = item.parentId ?? this.branches.newest(turn.message.id);
      const known = { role: "user", id: turn.message.parent_id, parent_id: parentId, created_at: turn.created_at };
      question.message = { ...question.message, ...known };
      this.views.set(turn.message.parent_id, question);
    }
    this.branches.leaf = null;
    this.merge([turn.message]);
  }

  /** What the feed says, to this tab or another. */
  hear({ events = [], state, look }) {
    if (look) this.reload();
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
    const answer = this.answers.get(event.turn_id) ?? (id && this.begin(id, event));
    if (answer && !answer.fold.misses(event)) answer.take(event);
    else this.reload();
    if (event.type === "turn.started" && !this.views.has(event.user_message_id)) this.reload();
    if (event.type === "turn.started" || event.type === "turn.finished") list.load();
    if (event.type === "turn.started" || event.type === "turn.finished" || event.type === "snapshot") this.look();
  }

  begin(id, event) {
    const view = this.view({ id, role: "assistant", turn_id: event.turn_id, parent_id: event.user_message_id, seq: 0 });
    this.branches.leaf = null;
    // Where its question is not known yet it stands at the end until it is.
    if (this.views.has(event.user_message_id)) this.branches.arrange(this.firstUnsent);
    else log.insertBefore(view.root, this.firstUnsent);
    return view;
  }

  /** The answer that runs, else the first that waits. */
  get live() {
    const open = [...this.answers.values()].filter(({ message }) => isOpen(message));
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
    byId("cancel").hidden = !this.editing;
    log.classList.toggle("busy", Boolean(live || this.unsent.size));
    const state = navigator.onLine ? (this.state === "live" && !live ? "caught up" : this.state) : "offline";
    byId("state").textContent = say[state];
    byId("state").dataset.state = state;
    if (this.editing) note(say.editing);
    else if (live) note(live.message.status === "queued" ? say.queued : say.answering);
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

/** Where the list covers the page: shows it, or not. */
function unfold(shown) {
  byId("side").classList.toggle("shown", shown);
  byId("menu").setAttribute("aria-expanded", String(shown));
}

const isUnfolded = () => byId("side").classList.contains("shown");

/** Opens what the address names. */
function route() {
  if (session.asks) return; // There is nothing to show to nobody.
  const id = /^#(conv_[0-9a-f]{32})$/.exec(location.hash)?.[1] ?? null;
  if (talk && talk.id === id && !talk.closed) return;
  talk?.close();
  talk = new Talk(id);
  stick();
  note("");
  byId("ask").hidden = false;
  unfold(false);
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
const session = new Session(client, byId("session"), byId("out"), (known) => {
  for (const id of ["ask", "log", "list", "new", "state"]) byId(id).hidden = !known;
});

// The words of the page, where the document has them in English.
document.documentElement.lang = language;
for (const [id, text] of [["new", say.newConversation], ["send", say.send], ["stop", say.stop], ["latest", say.latest],
  ["label", say.message], ["api", say.api], ["enter", say.enter], ["out", say.out],
  ["cancel", say.cancel]]) byId(id).textContent = text;
byId("session").querySelector("label").textContent = say.token;
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

/** Gives up what was being edited; says whether something was. */
function giveUp() {
  if (!talk.editing) return false;
  talk.editing = null;
  box.value = "";
  grow();
  note("");
  talk.look();
  return true;
}

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
  if (event.key !== "Escape" || event.isComposing || event.target.closest?.("dialog")) return;
  if (isUnfolded()) {
    unfold(false);
    byId("menu").focus();
  } else if (!event.target.closest?.("#side") && !giveUp()) stop();
});
byId("stop").addEventListener("click", stop);
byId("cancel").addEventListener("click", () => { giveUp(); box.focus(); });
byId("new").addEventListener("click", () => { unfold(false); location.hash = ""; box.focus(); });
byId("latest").addEventListener("click", stick);
byId("menu").addEventListener("click", () => unfold(!isUnfolded()));
byId("list").addEventListener("click", (event) => { if (event.target.closest("a")) unfold(false); });
byId("page").addEventListener("click", (event) => { if (!event.target.closest("#menu")) unfold(false); });
log.addEventListener("scroll", settle);

addEventListener("hashchange", route);
for (const name of ["online", "offline"]) addEventListener(name, () => talk?.look());
addEventListener("resize", follow);
// A page that goes into the browser's cache holds no stream, and looks again when it comes back.
addEventListener("pagehide", () => talk?.close());
addEventListener("pageshow", (event) => { if (event.persisted) route(); });

if (await session.known()) {
  route();
  list.load();
  outbox.flush();
}
document.documentElement.dataset.ready = "true";
