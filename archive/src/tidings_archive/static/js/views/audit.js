/** The view of the audit log, latest first, filtered by user and action. */

import { polled, spelled } from "../api.js";
import { fill, h } from "../dom.js";
import { icon } from "../icons.js";
import { alert, head, nothing, searchFields } from "../parts.js";
import { ago, moment } from "../words.js";

const EVERY = 3000; // milliseconds
const LATEST = 200;

export function audit(main, { go, query }) {
  const wanted = { who: query.get("who") ?? "", action: query.get("action") ?? "" };
  const [top, end] = head("Audit", "Replays, discarded dead letters and suspensions with their users, and what consumers confirmed.");
  const { labelled, values } = searchFields(wanted, { action: { placeholder: "discarded" } });
  const search = (event) => {
    event.preventDefault();
    go(`/console/audit${spelled(values())}`);
  };
  const result = h("div", { class: "result" });
  main.append(top, h("form", { role: "search", class: "search card", onsubmit: search }, h("div", { class: "search-main" }, labelled("who", "Who"), labelled("action", "Action"), h("button", { class: "button", type: "submit" }, icon("search"), "Find"))), result);
  const draw = ({ entries }) => fill(result, entries.length ? [h("p", { class: "soft small" }, `The latest ${LATEST} entries at most.`), h("ol", { class: "audit" }, entries.map(entry))] : nothing("check", "No entries", "No entries match these conditions."));
  const stop = polled("/audit", { ...wanted, limit: LATEST }, EVERY, draw, (reason) => fill(result, alert("The audit log cannot be read.", reason)));
  return () => [stop, end].forEach((each) => each());
}

const entry = ({ at, who, action, target, detail }) => h("li", null, h("time", { datetime: at, title: moment(at) }, ago(at)), h("b", null, who), h("span", null, `${action} ${target}`), detail && h("span", { class: "soft" }, detail));
