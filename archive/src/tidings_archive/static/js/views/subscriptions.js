/** The view of all subscriptions: team, contact, types, lag and suspension. */

import { ask, Problem, repeatedly } from "../api.js";
import { sure } from "../dialog.js";
import { fill, h } from "../dom.js";
import { deadLettersAt, head, nothing, owner, service } from "../parts.js";
import { follow, state } from "../state.js";
import { many, number } from "../words.js";

const HEADS = ["Subscription", "Service and team", "Reads", "Waiting", "Dead letters", "Delivery"];
const SUSPENDED_EVERY = 5000; // milliseconds

export function subscriptions(main, { keep, query }) {
  const [top, end] = head("Subscriptions", "Subscriptions with their teams, the types that they read, and the events that wait at the broker.");
  const text = h("input", { id: "find-subscription", type: "search", class: "field", autocomplete: "off", placeholder: "Name, service, team or type", value: query.get("q") ?? "", oninput: changed });
  const old = h("input", { type: "checkbox", checked: query.has("deprecated"), onchange: changed });
  const rows = h("tbody");
  const found = h("p", { class: "soft small", role: "status" });
  const result = h("div", { class: "result" });
  const table = h("div", { class: "types" }, h("div", { class: "card scroll", tabindex: 0, role: "region", "aria-label": "Table of subscriptions" }, h("table", null, h("thead", null, h("tr", null, HEADS.map((name, index) => h("th", { scope: "col", class: index > 2 ? "right" : null }, name)))), rows)), found);
  const filters = h("div", { class: "filters" }, h("div", { class: "filter" }, h("label", { class: "unseen", for: "find-subscription" }, "Find subscriptions"), text), h("label", { class: "switch" }, old, "Only those that read deprecated versions"));
  const refusal = h("p", { class: "soft small", role: "status", hidden: true });
  let suspended = null; // names; null if unknown: nothing can be changed then
  main.append(top, filters, refusal, result);

  const learn = (names) => {
    suspended = new Set(names);
    refusal.hidden = true;
    draw();
  };
  const look = async (signal) => {
    try {
      learn((await ask("/subscriptions", { signal })).suspended);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      refusal.hidden = false;
      refusal.textContent = `Deliveries cannot be paused here: ${error.message}`;
    }
  };

  function changed() {
    keep({ q: text.value.trim(), deprecated: old.checked ? "yes" : "" });
    draw();
  }

  function draw() {
    const all = state.map.subscriptions;
    if (!all.length) return fill(result, nothing("warning", "No system map", state.unmapped ?? "Loading…"));
    const wanted = text.value.trim().toLowerCase();
    const fits = ({ name, app, owner: team, reads }) => [name, app, team, ...Object.keys(reads)].some((word) => word.toLowerCase().includes(wanted));
    const shown = all.filter((each) => fits(each) && (!old.checked || deprecated(each).size));
    fill(rows, shown.map((each) => row(each, suspended, learn)));
    found.textContent = `${many(shown.length, "subscription")} of ${all.length}`;
    return table.isConnected || fill(result, table);
  }
  const unfollow = follow(["map", "live"], draw);
  const stop = repeatedly(look, SUSPENDED_EVERY);
  return () => [unfollow, stop, end].forEach((each) => each());
}

/** The deprecated versions that a subscription reads by name, such as `orders.orderConfirmed.v1`. */
const deprecated = ({ name, app }) => new Set(state.map.deprecated.filter(({ readers }) => readers.some((each) => each.app === app && each.subscription === name)).map(({ type, version }) => `${type}.${version}`));

/** Confirm that a subscription is to be suspended or resumed; `done` is called with the names of all suspended ones. */
function change({ name, app }, suspend, done) {
  sure({
    title: suspend ? `Pause deliveries to ${name}?` : `Resume deliveries to ${name}?`,
    action: suspend ? "Pause deliveries" : "Resume deliveries",
    icon: suspend ? "pause" : "replay",
    warn: suspend,
    content: [h("p", null, service(app), suspend ? " receives no more events of this subscription. They wait at the broker, within its retention." : " receives the events that wait at the broker, and new ones.")],
    work: async (by) => {
      try {
        done((await ask(`/subscriptions/${name}`, { method: "PATCH", body: { suspended: suspend, by } })).suspended);
        return null;
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        return error.message;
      }
    },
  });
}

function row(each, known, done) {
  const { name, app, reads, pattern, eventsPerSecond } = each;
  const suspended = known ? known.has(name) : each.suspended;
  const label = suspended ? "Resume" : "Pause";
  const { waiting } = state.live;
  const old = deprecated(each);
  const version = (type, of) => h("span", { class: old.has(`${type}.${of}`) ? "version deprecated" : "version" }, old.has(`${type}.${of}`) ? `${of} deprecated` : of);
  return h(
    "tr",
    null,
    h("th", { scope: "row" }, name, suspended && h("span", { class: "tag mild" }, "suspended"), eventsPerSecond !== null && h("span", { class: "tag" }, `${eventsPerSecond}/s`)),
    h("td", { "data-name": "Service" }, service(app), owner(each)),
    h("td", { "data-name": "Reads" }, pattern ? `everything, ${many(Object.keys(reads).length, "type")}` : Object.entries(reads).map(([type, versions]) => h("div", null, type, " ", versions.map((of) => version(type, of))))),
    h("td", { class: `right number${waiting?.[app] ? " busy" : ""}`, "data-name": "Waiting", title: "of all subscriptions of the service" }, waiting ? number(waiting[app] ?? 0) : "not measured"),
    h("td", { class: "right", "data-name": "Dead letters" }, h("a", { href: deadLettersAt({ app, subscription: name }), "data-key": `letters ${app} ${name}`, "aria-label": `Dead letters of ${name}` }, "Show")),
    h("td", { class: "right", "data-name": "Delivery" }, known ? h("button", { class: "button plain small-button", type: "button", "data-key": `delivery ${app} ${name}`, "aria-label": `${label} deliveries to ${name}`, onclick: () => change(each, !suspended, done) }, label) : "—"),
  );
}
