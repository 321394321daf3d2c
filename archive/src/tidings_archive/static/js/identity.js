/** The user of a change: the name from the proxy or a typed one, and the archive's token. */

import { ask, credentials, Problem } from "./api.js";
import { fill, h } from "./dom.js";
import { read, write } from "./storage.js";

/**
 * The part of a dialog that asks for name and token.
 * @returns {{element: HTMLElement, check: () => Promise<{name: string, problem?: string}>}} `check` returns the name
 *   for the audit log, or what is missing.
 */
export function identity() {
  const who = h("input", { id: "who", class: "field", value: read("who", ""), maxlength: 200, autocomplete: "username", required: true, placeholder: "Name or e-mail" });
  const token = h("input", { id: "token", class: "field", type: "password", autocomplete: "current-password" });
  const hint = (text) => h("p", { class: "soft small" }, text);
  const named = h("p", { hidden: true });
  const asked = h("div", { class: "asked" }, h("label", { for: "who" }, "Your name"), who, hint("Recorded in the audit log. This browser remembers it."));
  const source = h("code", { class: "small", hidden: true });
  const locked = h("div", { class: "asked", hidden: true }, h("label", { for: "token" }, "Access token"), token, hint("The archive requires it for changes. It is not kept when you close this page."), source);
  const barred = h("p", { class: "problem", hidden: true });
  const element = h("div", { class: "visitor" }, named, asked, locked, barred);
  let me = { name: null, missing: null, token: false, hint: "" };

  // Elements are updated, not replaced, to keep what the user is typing.
  const show = () => {
    named.hidden = !me.name;
    fill(named, "Signed in as ", h("b", null, me.name ?? ""), h("span", { class: "soft" }, ". The audit log records this name."));
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
      if (!(error instanceof Problem)) throw error; // the top of the page shows that the archive does not respond
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
    if (!name()) return wrong(who, "Enter your name: the audit log records it.");
    if (me.missing && me.token) {
      if (!token.value.trim()) return wrong(token, "Enter the archive's access token.");
      credentials.token = token.value.trim();
      await look();
      if (me.missing) {
        credentials.token = "";
        return wrong(token, "The access token is wrong.");
      }
    }
    if (me.missing) return { name: "", problem: me.missing };
    if (!me.name) write("who", name());
    return { name: name() };
  }

  look();
  return { element, check };
}
