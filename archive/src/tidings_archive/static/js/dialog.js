/** A dialog that confirms a change, asks for the user's name, and shows the result. */

import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { identity } from "./identity.js";

/**
 * @param {{title: string, action: string, icon: string, warn?: boolean, content: unknown[], ready?: () => boolean,
 *   work: (who: string, progress: (text: string) => void) => Promise<string|null>}} about `work` returns null, or
 *   the reason for a failure; `ready` validates the content.
 * @returns {{element: HTMLDialogElement, allow: (allowed: boolean) => void}}
 */
export function sure({ title, action, icon: picture, warn = false, content, ready = () => true, work }) {
  const told = h("div", { "aria-live": "assertive" });
  const go = h("button", { class: `button${warn ? " warn" : ""}`, type: "submit" }, icon(picture), action);
  const leave = h("button", { class: "button plain", type: "button", onclick: () => dialog.close() }, "Close");
  const say = (text, isProblem = true) => fill(told, text && h("p", { class: isProblem ? "problem" : "soft" }, text));
  const visitor = identity();

  async function submit(event) {
    event.preventDefault();
    go.disabled = true;
    const { name, problem } = await visitor.check();
    const refused = problem ?? (ready() ? await work(name, (text) => say(text, false)) : "");
    go.disabled = false;
    if (refused === null) dialog.close();
    else say(refused);
  }

  const dialog = h(
    "dialog",
    { class: "sure card", "aria-labelledby": "sure-title", onclose: () => dialog.remove() },
    h("form", { novalidate: true, onsubmit: submit }, h("h2", { id: "sure-title" }, title), content, visitor.element, told, h("div", { class: "row" }, go, leave)),
  );
  document.body.append(dialog);
  dialog.showModal();
  return { element: dialog, allow: (allowed) => { go.disabled = !allowed; } };
}
