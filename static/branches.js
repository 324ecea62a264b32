// The branches of a conversation: a message is followed by those that answer it, and one path is shown, from the first message
// to a last. It is the newest, unless somebody chose another.

export class Branches {
  /** @param {Map<string, Question | Answer>} views by the message's id @param {Element} log where the path stands */
  constructor(views, log) {
    Object.assign(this, { views, log, leaf: null, shown: [] });
  }

  /** Ids of the messages that answer the same message in the same role, oldest first: ids rise with time. */
  siblings(id) {
    const { parent_id: parent = null, role } = this.views.get(id).message;
    const alike = ([, { message }]) => (message.parent_id ?? null) === parent && message.role === role;
    return [...this.views].filter(alike).map(([other]) => other).sort();
  }

  /** The newest message that nothing answers, below `from`, or of all; not `but`. */
  newest(but, from) {
    const parents = new Set([...this.views.values()].map(({ message }) => message.id !== but && message.parent_id));
    const below = (id) => {
      for (let at = id; at; at = this.views.get(at)?.message.parent_id) if (at === from) return true;
      return false;
    };
    const ends = [...this.views.keys()].filter((id) => id !== but && !parents.has(id) && (!from || below(id)));
    return ends.sort().at(-1) ?? null;
  }

  /** The last message that is shown, where it is not the newest. */
  get chosen() {
    return this.leaf && this.leaf !== this.newest() ? this.leaf : null;
  }

  /** Shows the path, before `next`. */
  arrange(next) {
    this.next = next;
    if (!this.views.has(this.leaf)) this.leaf = null;
    const path = [];
    for (let id = this.leaf ?? this.newest(); this.views.has(id); id = this.views.get(id).message.parent_id) {
      path.unshift(id);
    }
    const roots = new Set(path.map((id) => this.views.get(id).root));
    for (const { root } of this.views.values()) if (!roots.has(root)) root.remove();
    for (const id of path.toReversed()) {
      const view = this.views.get(id);
      if (view.root.parentNode !== this.log || view.root.nextSibling !== next) this.log.insertBefore(view.root, next);
      next = view.root;
      const alike = this.siblings(id);
      view.among(alike.indexOf(id) + 1, alike.length, (step) => this.choose(alike, alike.indexOf(id) + step, step));
    }
  }

  /** Shows the branch of another of these, to its newest end; the focus stays where it can go on. */
  choose(alike, at, step) {
    const id = alike[at];
    if (!id) return;
    this.leaf = this.newest(undefined, id);
    this.arrange(this.next?.parentNode === this.log ? this.next : null);
    this.views.get(id).focus(step);
  }
}
