/** Parts that several views are made of. */

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { connection, spelled } from "./api.js";
import { follow, state } from "./state.js";
import { everyone } from "./system.js";
import { instant, local } from "./words.js";

/** The address of the events that a query is about. */
export const eventsAt = (query) => `/console/events${spelled(query)}`;
export const deadLettersAt = (query) => `/console/dead-letters${spelled(query)}`;
export const replaysAt = (query) => `/console/replays${spelled(query)}`;

/** The head of a view; answers it and how to end what goes on in it. */
export function head(title, lead) {
  const link = h("span", { class: "live", role: "status" });
  const show = () => {
    const now = connection.away ? "waiting" : state.known ? "on" : "connecting";
    if (link.dataset.state === now) return;
    link.dataset.state = now;
    link.textContent = { on: "Live", waiting: "Reconnecting…", connecting: "Connecting…" }[now];
  };
  const stop = follow(["live"], show);
  connection.addEventListener("change", show);
  const element = h("div", { class: "head" }, h("div", null, h("h1", { tabindex: -1 }, title), h("p", { class: "lead" }, lead)), link);
  const end = () => {
    stop();
    connection.removeEventListener("change", show);
  };
  return [element, end];
}

/** One of the apps, always in the same colour. */
export function service(name) {
  return h("span", { class: "service", "data-hue": hue(name) }, name);
}

/** Which of the twelve colours a service has: by its place among all, so that neighbours differ. */
export function hue(name) {
  const place = everyone(state.map).indexOf(name);
  return (place < 0 ? name.length : place) % 12;
}

/** Nothing to show, and why. */
export const nothing = (name, title, ...words) => h("div", { class: "lonely" }, h("span", { class: "lonely-icon" }, icon(name)), h("h2", null, title), h("p", null, words));

export const alert = (title, message) => h("p", { class: "alert", role: "alert" }, icon("warning"), h("strong", null, title), h("span", null, message));

/** A version, marked where it is not simply in use. */
export const version = ({ name, state: stands }) => h("span", { class: `version ${stands.toLowerCase()}` }, name, stands === "Active" ? null : ` ${stands.toLowerCase()}`);

/**
 * Named fields of a form that searches; fields for date and time give a moment with its time zone.
 * @param {Record<string, string>} wanted the values, by name
 * @param {Record<string, object>} special attributes of some of the fields
 */
export function searchFields(wanted, special) {
  const inputs = Object.fromEntries(Object.keys(wanted).map((name) => [name, h("input", { id: `find-${name}`, name, class: "field", autocomplete: "off", value: isMoment(special[name]) ? local(wanted[name]) : wanted[name], ...special[name] })]));
  const labelled = (name, label) => h("div", { class: `find find-${name}` }, h("label", { for: `find-${name}` }, label), inputs[name]);
  const values = () => Object.fromEntries(Object.entries(inputs).map(([name, { value }]) => [name, isMoment(special[name]) ? instant(value) : value.trim()]));
  return { labelled, values };
}
export const MOMENT_FIELD = { type: "datetime-local", step: 1 };
const isMoment = (attributes) => attributes?.type === MOMENT_FIELD.type;

/** A team and how to reach it. Only addresses that a browser may open safely are links. */
export function owner({ owner: team, contact }) {
  if (!team) return h("span", { class: "soft small owner" }, "nobody is named");
  const address = /^https?:\/\//.test(contact) ? contact : /^[^\s@:]+@[^\s@:]+$/.test(contact) ? `mailto:${contact}` : null;
  return h("span", { class: "soft small owner" }, `team ${team}`, contact && [", ", address ? h("a", { href: address }, contact) : contact]);
}

/** JSON for people to read. */
export const json = (value) => h("pre", { class: "json", tabindex: 0, role: "region", "aria-label": "JSON" }, JSON.stringify(value, null, 2));

/** A word that leads to all events of one correlation. */
export const story = (id) => h("a", { href: eventsAt({ correlationId: id }) }, "Whole story");
