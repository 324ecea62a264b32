// One message as it is shown: a question, or an answer that follows its events.

import { Fold, isOpen } from "/client.js";
import { visualize } from "/static/chart.js";
import { button, element, scrolling } from "/static/element.js";
import { Prose } from "/static/prose.js";
import { language, say } from "/static/words.js";

const clock = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "short" });

/** Who says it and when. */
function heading(who, letter, at) {
  const avatar = element("span", "avatar", letter);
  avatar.setAttribute("aria-hidden", "true");
  const time = element("time", "");
  const head = element("h2", "who", avatar, element("span", "", who), time);
  const stamp = (when) => {
    if (!when) return;
    time.dateTime = when;
    time.textContent = clock.format(new Date(when));
  };
  stamp(at);
  return [head, stamp];
}

/** Where a message stands among others that answer the same, with a way to them. */
function switcher(number, count, onStep) {
  const step = (sign, name, by) => {
    const made = button("tool", sign, () => onStep(by));
    made.setAttribute("aria-label", name);
    made.disabled = by < 0 ? number === 1 : number === count;
    return made;
  };
  const box = element("span", "siblings", step("‹", say.previous, -1), ` ${number}/${count} `, step("›", say.next, 1));
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", say.versions);
  return box;
}

/** What questions and answers have in common: siblings. */
class View {
  /** Says which of how many it is; `onStep(by)` goes to another. */
  among(number, count, onStep) {
    const key = `${number}/${count}`;
    this.onStep = onStep;
    if (this.place === key) return;
    this.place = key;
    this.switch?.remove();
    this.switch = count > 1 ? switcher(number, count, (by) => this.onStep(by)) : null;
    if (this.switch) this.tools.append(this.switch);
  }

  /** Has the button that goes on the same way focused, or the other at the end. */
  focus(step) {
    const [back, forth] = this.switch?.querySelectorAll("button") ?? [];
    const wanted = step < 0 ? back : forth;
    (wanted?.disabled ? (step < 0 ? forth : back) : wanted)?.focus();
  }
}

/** A question. */
export class Question extends View {
  /**
   * @param {object} message of the gateway, or `{content}` of one that is still to be sent
   * @param {{onEdit}} hears that it is to be asked otherwise
   */
  constructor(message, { onEdit }) {
    super();
    this.edit = button("tool edit", "✎", () => onEdit(this));
    this.edit.setAttribute("aria-label", say.edit);
    this.edit.title = say.edit;
    const [head, stamp] = heading(say.you, say.you.slice(0, 1), message.created_at);
    this.stamp = stamp;
    this.text = element("div", "text", message.content);
    this.tools = element("div", "tools");
    this.root = element("article", "user", head, this.text, this.tools);
    this.message = message;
    this.sent(Boolean(message.id));
  }

  /** The first question is followed by everything: beside it there is no other. */
  among(number, count, onStep) {
    if (this.message.parent_id) this.tools.prepend(this.edit);
    super.among(number, count, onStep);
  }

  /** Whether the gateway has it; until then it says so. */
  sent(known) {
    this.root.classList.toggle("unsent", !known);
    this.mark?.remove();
    this.mark = known ? null : element("p", "mark", say.sending);
    if (this.mark) this.root.append(this.mark);
  }

  /** It was refused, and will not be sent again. */
  refuse(why) {
    this.mark?.remove();
    this.mark = element("p", "end", `${say.refused}: ${why}`);
    this.root.append(this.mark);
  }
}

const count = new Intl.NumberFormat(language);

/** What an answer used: its tokens, and what they cost if that is known. An estimate is marked as one. */
function spent({ prompt_tokens: prompt, completion_tokens: completion, cost_nano_usd: cost, basis }) {
  const about = basis === "estimated" ? "≈ " : "";
  const tokens = `${about}${count.format(prompt)} + ${count.format(completion)} ${say.tokens}`;
  return cost === undefined ? tokens : `${tokens} · ${about}${money(cost)}`;
}

/** Nano-USD, as a price: in cents, and of less than a cent the first two digits that are not zero. */
function money(nano) {
  const usd = nano / 1e9;
  const small = usd > 0 && usd < 0.01 ? { maximumSignificantDigits: 2 } : { maximumFractionDigits: 2 };
  return new Intl.NumberFormat(language, { style: "currency", currency: "USD", ...small }).format(usd);
}

/** An answer. */
export class Answer extends View {
  /** @param {object} message as far as it is known @param {{onGrown, onAgain}} hears of it */
  constructor(message, { onGrown, onAgain }) {
    super();
    this.onAgain = onAgain;
    const [head, stamp] = heading(say.assistant, "◈", message.created_at ?? new Date().toISOString());
    this.stamp = stamp;
    this.before = element("div", "before");
    this.text = element("div", "text");
    this.after = element("div", "after");
    this.tools = element("div", "tools");
    this.root = element("article", "bot", head, this.before, this.text, this.after, this.tools);
    this.prose = new Prose(this.text, onGrown);
    this.fold = new Fold(message);
    this.redraw();
  }

  get message() {
    return this.fold.message;
  }

  /** Takes one event; says whether it was new. */
  take(event) {
    if (!this.fold.take(event)) return false;
    switch (event.type) {
      case "snapshot": this.redraw(); break;
      case "turn.started": this.state(); break;
      case "delta": this.prose.add(event.text); this.root.classList.add("begun"); break;
      case "reasoning": this.think(event.text); break;
      case "step.started": this.step(event); break;
      case "step.finished": this.stepped(event); break;
      case "source": this.source(event); break;
      case "visualization": this.after.append(visualize(event)); break;
      case "turn.finished": this.state(); break;
      default: break;
    }
    return true;
  }

  redraw() {
    const { message } = this;
    this.prose.clear();
    this.before.replaceChildren();
    this.after.replaceChildren();
    this.steps = new Map();
    this.stepBox = this.thoughts = this.chips = null;
    if (message.reasoning) this.think(message.reasoning);
    for (const step of message.steps) {
      this.step(step);
      if (step.status !== "running") this.stepped(step);
    }
    this.prose.add(message.content);
    this.root.classList.toggle("begun", message.content !== "");
    for (const source of message.sources) this.source(source);
    for (const visualization of message.visualizations) this.after.append(visualize(visualization));
    this.state();
  }

  /** Shows whether it runs, and how it ended. */
  state() {
    const { status, error, saved } = this.message;
    const open = isOpen(this.message);
    this.root.classList.toggle("running", open);
    this.root.setAttribute("aria-busy", String(open));
    this.foot?.remove();
    this.foot = null;
    if (open) return;
    const { usage } = this.message;
    for (const [stepId, step] of this.steps) if (!step.done) this.stepped({ step_id: stepId, status: "error" });
    this.foot = element("div", "foot");
    if (status !== "completed") {
      const why = error ? ` ${error.message}` : "";
      this.foot.append(element("p", "end", `${say[status] ?? status}${why}`));
    }
    this.foot.append(button("again", say.again, this.onAgain));
    if (saved === false) this.foot.append(element("p", "end", say.unsaved));
    if (usage) this.foot.append(element("p", "usage", spent(usage)));
    this.root.append(this.foot);
  }

  think(text) {
    if (!this.thoughts) {
      this.thoughts = document.createTextNode("");
      const box = element("div", "reasoning", this.thoughts);
      this.before.prepend(element("details", "", element("summary", "", say.reasoning), box));
    }
    this.thoughts.appendData(text);
  }

  step(step) {
    if (!this.stepBox) {
      this.stepBox = element("ul", "steps");
      this.stepWord = element("span", "now");
      this.before.append(element("details", "", element("summary", "", say.steps, this.stepWord), this.stepBox));
    }
    const label = element("span", "label", `${step.label} …`);
    const item = element("li", "", label);
    const parent = this.steps.get(step.parent_id);
    if (parent) (parent.below ??= parent.item.appendChild(element("ul", ""))).append(item);
    else this.stepBox.append(item);
    this.steps.set(step.step_id, { item, label, text: step.label });
    this.stepWord.textContent = ` · ${step.label} …`;
    if (step.input !== undefined) this.detail(item, say.input, step.input);
  }

  stepped(step) {
    const known = this.steps.get(step.step_id);
    if (!known || known.done) return;
    known.done = true;
    const took = step.duration_ms === undefined ? "" : ` · ${step.duration_ms} ms`;
    known.label.textContent = `${known.text} · ${step.status}${took}`;
    known.item.classList.toggle("error", step.status === "error");
    const open = [...this.steps.values()].findLast(({ done }) => !done);
    this.stepWord.textContent = open ? ` · ${open.text} …` : "";
    if (step.output !== undefined) this.detail(known.item, say.output, step.output);
    if (step.error) known.item.append(element("p", "end", step.error));
  }

  detail(item, name, value) {
    const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    item.append(element("details", "", element("summary", "", name), scrolling(element("pre", "", text), name)));
  }

  source(source) {
    if (!this.chips) {
      this.chips = element("ol", "sources");
      this.chips.setAttribute("aria-label", say.sources);
      this.after.prepend(this.chips);
    }
    const name = source.title || source.url || source.document_id || "";
    const number = element("span", "number", String(source.number));
    const safe = /^https?:\/\//i.test(source.url ?? "");
    const chip = element(safe ? "a" : "span", "chip", number, element("span", "name", name));
    if (safe) Object.assign(chip, { href: source.url, target: "_blank", rel: "noopener noreferrer" });
    chip.title = source.snippet ?? "";
    this.chips.append(element("li", "", chip));
  }
}
