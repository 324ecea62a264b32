// Who the page speaks as, where the gateway asks for that: a token that is pasted becomes a cookie that no script can read.

import { kept } from "/static/browser.js";
import { say } from "/static/words.js";

/** Kept while this browser has such a cookie. */
const SIGNED_IN = "tidegate.signedIn";

export class Session {
  /**
   * @param {object} client of the gateway
   * @param {HTMLFormElement} form asks for a token; it holds a field `token`, a button and a place for a word
   * @param {HTMLButtonElement} out signs out
   * @param {(known: boolean) => void} onChange whether there is anything to show
   */
  constructor(client, form, out, onChange) {
    Object.assign(this, { client, form, out, onChange });
    out.hidden = !kept.read(SIGNED_IN, false);
    out.addEventListener("click", () => this.leave());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.enter(form.elements.token.value.trim());
    });
  }

  /** Whether the gateway knows who asks; otherwise the form is there, and the page begins anew once it has done its work. */
  async known() {
    try {
      await this.client.conversations({ limit: 1 });
    } catch (error) {
      if (error.status === 401 || error.status === 403) {
        this.ask(kept.read(SIGNED_IN, false) ? error.message : "");
        return false;
      }
    }
    return true; // Whatever else is wrong, the page itself says, and tries again.
  }

  /** Whether the form is there. */
  get asks() {
    return !this.form.hidden;
  }

  /** Shows the form, and why. */
  ask(why) {
    this.onChange(false);
    this.form.hidden = false;
    this.form.querySelector("[role=alert]").textContent = why;
    this.form.elements.token.focus();
  }

  async enter(token) {
    try {
      await this.client.send("POST", "/v1/session", { headers: { Authorization: `Bearer ${token}` } });
      kept.write(SIGNED_IN, true);
      location.reload();
    } catch (error) {
      this.ask(error instanceof TypeError ? say.noToken : error.message);
    }
  }

  /** Signs out; what is kept here for the one who leaves is not for the next. */
  async leave() {
    try {
      await this.client.send("DELETE", "/v1/session");
    } catch {
      return; // The cookie is still there, and so is the way out.
    }
    kept.clear();
    location.hash = "";
    location.reload();
  }
}
