/** Who decides: as the proxy in front of the archive says, else as they say themselves; with the token that it asks for. */

import { ask, credentials, Problem } from "./api.js";
import { fill, h } from "./dom.js";
import { read, write } from "./storage.js";

/**
 * What a dialog asks of its visitor.
 * @returns {{element: HTMLElement, check: () => Promise<{name: string, problem?: string}>}} `check` answers whose name
 *   is written down, or what is missing.
 */
export function identity() {
  const who = h("input", { id: "who", class: "field", value: read("who", ""), maxlength: 200, autocomplete: "username", required: true, placeholder: "Your name or e-mail" });
  const token = h("input", { id: "token", class: "field", type: "password", autocomplete: "current-password" });
  const hint = (text) => h("p", { class: "soft small" }, text);
  const named = h("p", { hidden: true });
  const asked = h("div", { class: "asked" }, h("label", { for: "who" }, "Who decides this"), who, hint("Written into the audit; this browser remembers it."));
  const source = h("code", { class: "small", hidden: true });
  const locked = h("div", { class: "asked", hidden: true }, h("label", { for: "token" }, "Access token"), token, hint("The archive asks for it before anything is changed. Forgotten when this page is closed."), source);
  const barred = h("p", { class: "problem", hidden: true });
  const element = h("div", { class: "visitor" }, named, asked, locked, barred);
  let me = { name: null, missing: null, token: false, hint: "" };

  // What is typed meanwhile stays: nothing is made anew.
  const show = () => {
    named.hidden = !me.name;
    fill(named, "You are ", h("b", null, me.name ?? ""), h("span", { class: "soft" }, ", and that is written into the audit."));
    asked.hidden = Boolean(me.name);
    locked.hidden = !me.missing || !me.token;
    source.hidden = !me.hint;
    source.textContent = me.hint;
    barred.hidden = !me.missing || me.token;
    barred.textContent = me.missing ?? "";
  };
  const look = async () => {
    try {
      me = await ask("/console/me");
    } catch (error) {
      if (!(error instanceof Problem)) throw error; // who is away is told at the top of the page
    }
    show();
  };

  const wrong = (field, problem) => {
    field.setAttribute("aria-invalid", "true");
    field.focus();
    return { name: "", problem };
  };

  async function check() {
    [who, token].forEach((field) => field.removeAttribute("aria-invalid"));
    const name = () => me.name ?? who.value.trim();
    if (!name()) return wrong(who, "Say who decides this: it is written down.");
    if (me.missing && me.token) {
      if (!token.value.trim()) return wrong(token, "The archive asks for its access token.");
      credentials.token = token.value.trim();
      await look();
      if (me.missing) {
        credentials.token = "";
        return wrong(token, "This is not the archive's access token.");
      }
    }
    if (me.missing) return { name: "", problem: me.missing };
    if (!me.name) write("who", name());
    return { name: name() };
  }

  look();
  return { element, check };
}
