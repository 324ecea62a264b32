// Questions that the gateway does not have yet. They are kept over a reload and while the network is away, and each is
// asked once: one tab at a time sends, under the key the question got when it was typed.

import { freshKey, patiently } from "/client.js";
import { alone, kept } from "/static/browser.js";

const NAME = "tidegate.outbox";

export class Outbox {
  /**
   * @param {Client} client
   * @param {(word: {item, conversationId?, turn?, refused?}) => void} onTold hears what became of a question, whichever
   * tab sent it
   */
  constructor(client, onTold) {
    Object.assign(this, { client, onTold, sending: false });
    this.channel = new BroadcastChannel(NAME);
    this.channel.addEventListener("message", ({ data }) => onTold(data));
    addEventListener("online", () => this.flush());
  }

  tell(word) {
    this.channel.postMessage(word);
    this.onTold(word);
  }

  /**
   * What waits, oldest first: `{key, conversationId, content, after, parentId}`. A conversation that is to be made has no id yet;
   * then `after` is the key of the question that makes it, if that is another one.
   */
  get items() {
    return kept.read(NAME, []);
  }

  /** Keeps a question, and sends it as soon as it can. */
  add(conversationId, content, { after, parentId } = {}) {
    const item = { key: freshKey(), conversationId, content, after, parentId };
    kept.write(NAME, [...this.items, item]);
    this.flush();
    return item;
  }

  drop(item) {
    kept.write(NAME, this.items.filter(({ key }) => key !== item.key));
  }

  /** Sends what waits, one after the other, until there is nothing. */
  async flush() {
    if (this.sending) return;
    this.sending = true;
    await alone(NAME, async () => {
      try {
        for (let [item] = this.items; item; [item] = this.items) await this.see(item);
      } finally {
        this.sending = false; // With the last look: what is added from now on is for another round.
      }
    });
  }

  /** Sends a question, or tells why it never will be. */
  async see(item) {
    try {
      await patiently(() => this.send(item));
    } catch (error) {
      this.drop(item);
      this.tell({ item, refused: error.message });
    }
  }

  async send(item) {
    let [id, turn] = [item.conversationId, null];
    if (id) {
      turn = await this.client.start(id, item.content, item.key, { parentId: item.parentId });
    } else {
      id = (await this.client.begin(item.content, item.key)).id;
      // What was typed after it is for the same conversation.
      kept.write(NAME, this.items.map((other) => (other.after === item.key ? { ...other, conversationId: id } : other)));
    }
    this.drop(item);
    this.tell({ item, conversationId: id, turn });
  }
}
