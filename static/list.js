// The list of conversations: found by their words, renamed, archived, deleted.

import { button, element } from "/static/element.js";
import { say } from "/static/words.js";

const SEARCH_PAUSE_MS = 200;

/** Pieces of a text as nodes, those that match marked. */
const marked = (pieces) => pieces.map(({ text, matched }) => (matched ? element("mark", "", text) : text));

export class List {
  /** @param {Client} client @param {Element} root @param {(id) => void} onGone hears of those deleted here */
  constructor(client, root, onGone) {
    Object.assign(this, { client, onGone, current: null, asked: 0, shown: 20, archived: false });
    this.search = element("input", "");
    Object.assign(this.search, { type: "search", placeholder: say.search, id: "search", maxLength: 500 });
    this.search.setAttribute("aria-label", say.search);
    this.search.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.load(), SEARCH_PAUSE_MS);
    });
    this.toggle = button("toggle", say.showArchived, () => {
      this.archived = !this.archived;
      this.toggle.ariaPressed = String(this.archived);
      this.load();
    });
    this.toggle.ariaPressed = "false";
    this.items = element("ul", "items");
    this.none = element("p", "none", say.none);
    this.more = button("more", say.more, () => { this.shown += 20; this.load(); });
    this.dialog = element("dialog", "");
    root.append(this.search, this.toggle, this.items, this.none, this.more, this.dialog);
    this.channel = new BroadcastChannel("tidegate.list");
    this.channel.addEventListener("message", () => this.load());
  }

  /** Something in it changed: all tabs look. */
  changed() {
    this.channel.postMessage("changed");
    this.load();
  }

  /** Says which one is open. */
  mark(id) {
    this.current = id;
    for (const item of this.items.children) item.firstChild.ariaCurrent = item.dataset.id === id ? "page" : null;
  }

  async load() {
    this.asked += 1;
    const mine = this.asked;
    const [q, found] = [this.search.value, []];
    let cursor = "";
    try {
      do {
        const limit = Math.min(this.shown - found.length, 100);
        const page = await this.client.conversations({ q, cursor, limit, archived: this.archived });
        found.push(...page.data);
        cursor = page.next_cursor;
      } while (cursor && found.length < this.shown && mine === this.asked);
    } catch {
      return; // What is shown stays; the next change looks again.
    }
    if (mine !== this.asked) return;
    if (this.items.querySelector("input")) return; // Somebody is typing a title.
    this.items.replaceChildren(...found.map((conversation) => this.item(conversation)));
    this.none.hidden = found.length > 0;
    this.more.hidden = !cursor;
    this.mark(this.current);
  }

  item({ id, title, archived_at: away, match }) {
    const link = element("a", "open", element("span", "name", ...(match ? marked(match.title) : [title])));
    if (match?.message) link.append(element("span", "part", ...marked(match.message.text)));
    link.href = `#${id}`;
    link.title = title;
    const [sign, name] = away ? ["⤒", say.unarchive] : ["⤓", say.archive];
    const item = element("li", away ? "away" : "", link,
      this.tool(sign, `${name}: ${title}`, () => this.archive(id, !away)),
      this.tool("✎", `${say.rename}: ${title}`, () => this.rename(item, id, title)),
      this.tool("✕", `${say.remove}: ${title}`, () => this.remove(id, title)));
    item.dataset.id = id;
    return item;
  }

  tool(sign, name, onClick) {
    const made = button("tool", sign, onClick);
    made.setAttribute("aria-label", name);
    made.title = name;
    return made;
  }

  async archive(id, away) {
    await this.client.archive(id, away).catch(() => null);
    this.changed();
  }

  rename(item, id, title) {
    const field = element("input", "");
    Object.assign(field, { value: title, maxLength: 500 });
    field.setAttribute("aria-label", say.newTitle);
    let over = false;
    const end = async (save) => {
      if (over) return;
      over = true;
      field.remove();
      const wanted = field.value.trim();
      if (save && wanted && wanted !== title) await this.client.rename(id, wanted).catch(() => null);
      this.changed();
    };
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Enter") end(true);
      else if (event.key === "Escape") end(false);
    });
    field.addEventListener("blur", () => end(true));
    item.replaceChildren(field);
    field.select();
  }

  remove(id, title) {
    const yes = button("danger", say.remove, async () => {
      this.dialog.close();
      try {
        await this.client.remove(id);
      } catch (error) {
        if (error.status !== 404) return;
      }
      this.onGone(id);
      this.changed();
    });
    const name = element("p", "", element("strong", "", title));
    this.dialog.replaceChildren(element("p", "", say.reallyRemove), name, button("", say.cancel, () => this.dialog.close()), yes);
    this.dialog.showModal();
  }
}
