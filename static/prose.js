// Text as it grows: blocks of text nodes, one per paragraph or code fence. What was shown is not touched again, so a long
// answer costs what its new text costs. The text of all blocks together is the text, character by character.

import { element, scrolling } from "/static/element.js";
import { say } from "/static/words.js";

/** So much is added in one frame, in UTF-16 code units: a burst is shown in steps that nobody feels. */
const FRAME = 8192;
/** A block is ended at the next line end once it has so much. */
const BLOCK = 4096;
const FENCE = /^ {0,3}(```+|~~~+)/;

export class Prose {
  /** @param {Element} root what it grows in @param {() => void} onGrown called after each frame that added something */
  constructor(root, onGrown) {
    this.root = root;
    this.onGrown = onGrown;
    this.clear();
  }

  clear() {
    this.root.replaceChildren();
    this.pending = [];
    this.fence = "";
    this.line = "";
    this.node = null;
  }

  /** Adds text, with the next frame. */
  add(text) {
    if (!text) return;
    this.pending.push(text);
    this.frame ??= requestAnimationFrame(() => this.grow());
  }

  grow() {
    this.frame = null;
    let room = FRAME;
    let taken = 0;
    while (taken < this.pending.length && room > 0) {
      const text = this.pending[taken];
      this.put(text.slice(0, room));
      if (text.length > room) this.pending[taken] = text.slice(room);
      else taken += 1;
      room -= text.length;
    }
    this.pending.splice(0, taken);
    if (this.pending.length) this.frame = requestAnimationFrame(() => this.grow());
    this.onGrown();
  }

  put(text) {
    for (let from = 0; from < text.length;) {
      const end = text.indexOf("\n", from);
      const piece = end < 0 ? text.slice(from) : text.slice(from, end + 1);
      if (!this.node) this.open(this.fence ? "pre" : "div");
      this.node.appendData(piece);
      this.line += this.line.length < 16 ? piece : "";
      if (end < 0) return;
      this.lineEnds();
      from = end + 1;
    }
  }

  open(tag) {
    this.node = document.createTextNode("");
    const block = element(tag, "block", this.node);
    this.root.append(tag === "pre" ? scrolling(block, say.code) : block);
  }

  lineEnds() {
    const mark = FENCE.exec(this.line)?.[1] ?? "";
    const blank = this.line.trim() === "";
    this.line = "";
    if (this.fence) {
      if (mark.startsWith(this.fence)) [this.fence, this.node] = ["", null];
      else if (this.node.length > BLOCK) this.node = null;
    } else if (mark) {
      // The fence's own line was prose until it was whole.
      const data = this.node.data;
      const start = data.lastIndexOf("\n", data.length - 2) + 1;
      const before = this.node;
      this.fence = mark;
      this.open("pre");
      this.node.appendData(data.slice(start));
      before.deleteData(start, data.length - start);
      if (!before.length) before.parentNode.remove();
    } else if (blank || this.node.length > BLOCK) {
      this.node = null;
    }
  }
}
