/** The table of event types with owners, readers and numbers of events. */

import { fill, h } from "../dom.js";
import { eventsAt, owner, service, version } from "../parts.js";
import { state } from "../state.js";
import { ofType, readersOf } from "../system.js";
import { many, number } from "../words.js";

const FIRST = 12; // rows shown at first

/**
 * @param {string} first the initial filter
 * @param {() => void} changed called when the filter has changed
 */
export function typesTable(first, changed) {
  let wanted = first;
  let all = false;
  const rows = h("tbody");
  const found = h("p", { class: "soft small", role: "status" });
  const field = h("input", {
    type: "search", value: first, id: "type-filter", class: "field", placeholder: "Type, service or team", autocomplete: "off",
    oninput: () => {
      wanted = field.value.trim().toLowerCase();
      changed();
      update();
    },
  });
  const more = h("button", { class: "button plain", type: "button", onclick: () => { all = true; update(); rows.rows[FIRST].querySelector("a").focus(); } });
  const heads = ["Type", "Published by", "Read by", "Last minute", "Archived"];
  const element = h(
    "section",
    { class: "types", "aria-labelledby": "types-title" },
    h("div", { class: "head" }, h("h2", { id: "types-title" }, "Event types"), h("div", { class: "filter" }, h("label", { class: "unseen", for: "type-filter" }, "Filter types"), field)),
    h("div", { class: "card scroll", tabindex: 0, role: "region", "aria-label": "Table of event types" }, h("table", null, h("thead", null, h("tr", null, heads.map((name, index) => h("th", { scope: "col", class: index > 2 ? "right" : null }, name)))), rows)),
    h("div", { class: "after" }, found, more),
  );

  function update() {
    const shown = state.map.types.filter(({ type, producers, owner: team }) => [type, team, ...producers, ...readersOf(state.map, type).map(({ app }) => app)].some((word) => word.toLowerCase().includes(wanted)));
    const part = all || wanted ? shown : shown.slice(0, FIRST);
    fill(rows, part.map(row));
    more.hidden = part.length === shown.length;
    more.textContent = `Show all ${shown.length} types`;
    found.textContent = wanted ? `${many(shown.length, "type")} of ${state.map.types.length}` : "";
    element.hidden = state.map.types.length === 0;
  }
  return { element, update, wanted: () => wanted };
}

function row({ type, intent, description, producers, versions, ...whose }) {
  const readers = readersOf(state.map, type).filter(({ pattern }) => !pattern);
  const lately = ofType(state.live.events, type);
  return h(
    "tr",
    null,
    h(
      "th",
      { scope: "row" },
      h("a", { href: eventsAt({ type }), "data-key": `type ${type}`, title: description }, type),
      versions.filter(({ state: stands }) => stands !== "Retired").map(version),
      intent === "Command" && h("span", { class: "tag" }, "command"),
      owner(whose),
    ),
    h("td", { "data-name": "Published by" }, producers.map(service)),
    h("td", { "data-name": "Read by" }, readers.length ? [...new Set(readers.map(({ app }) => app))].map(service) : h("span", { class: "soft" }, "none by name")),
    h("td", { class: `right number${lately ? " busy" : ""}`, "data-name": "Last minute" }, number(lately)),
    h("td", { class: "right number", "data-name": "Archived" }, number(ofType(state.totals, type))),
  );
}
