/** Elements that several views share. */

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { connection, spelled } from "./api.js";
import { follow, state } from "./state.js";
import { everyone } from "./system.js";
import { instant, local } from "./words.js";

/** The address of the events that match a query. */
export const eventsAt = (query) => `/console/events${spelled(query)}`;
export const deadLettersAt = (query) => `/console/dead-letters${spelled(query)}`;
export const replaysAt = (query) => `/console/replays${spelled(query)}`;

/** The head of a view. Returns the element and a function that stops its updates. */
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

/** The name of a service in its colour. */
export function service(name) {
  return h("span", { class: "service", "data-hue": hue(name) }, name);
}

/** The colour of a service, one of twelve, by its place in the sorted list. */
export function hue(name) {
  const place = everyone(state.map).indexOf(name);
  return (place < 0 ? name.length : place) % 12;
}

/** A placeholder if there is nothing to show. */
export const nothing = (name, title, ...words) => h("div", { class: "lonely" }, h("span", { class: "lonely-icon" }, icon(name)), h("h2", null, title), h("p", null, words));

export const alert = (title, message) => h("p", { class: "alert", role: "alert" }, icon("warning"), h("strong", null, title), h("span", null, message));

/** A version, with its state unless it is active. */
export const version = ({ name, state: stands }) => h("span", { class: `version ${stands.toLowerCase()}` }, name, stands === "Active" ? null : ` ${stands.toLowerCase()}`);

/**
 * Labelled fields of a search form; those for date and time return a time with a zone.
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

/** A team and its contact. Only http, https and mail addresses become links. */
export function owner({ owner: team, contact }) {
  if (!team) return h("span", { class: "soft small owner" }, "no owner");
  const address = /^https?:\/\//.test(contact) ? contact : /^[^\s@:]+@[^\s@:]+$/.test(contact) ? `mailto:${contact}` : null;
  return h("span", { class: "soft small owner" }, `team ${team}`, contact && [", ", address ? h("a", { href: address }, contact) : contact]);
}

/** Indented JSON. */
export const json = (value) => h("pre", { class: "json", tabindex: 0, role: "region", "aria-label": "JSON" }, JSON.stringify(value, null, 2));

/** A link to all events of one correlation. */
export const story = (id) => h("a", { href: eventsAt({ correlationId: id }) }, "Related events");
