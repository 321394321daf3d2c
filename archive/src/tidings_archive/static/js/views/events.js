/** The view of archived events: search, and the timeline of one correlation. */

import { ask, Problem, repeatedly, spelled } from "../api.js";
import { fill, h, speak } from "../dom.js";
import { icon } from "../icons.js";
import { alert, eventsAt, head, json, MOMENT_FIELD, nothing, replaysAt, searchFields, service } from "../parts.js";
import { follow, state } from "../state.js";
import { timeline } from "../timeline.js";
import { ago, clock, many, moment, span } from "../words.js";

const EVERY = 3000; // milliseconds between two requests
const PAGE = 50;
const STORY = 500; // events of one correlation
const NAMES = ["correlationId", "type", "subject", "q", "since", "until"];

export function events(main, { go, query }) {
  const wanted = Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""]));
  const isStory = wanted.correlationId !== "";
  const open = new Set();
  const decrypted = new Map();
  let mayDecrypt = false;
  let shown = [];
  let failed = false;
  let next = null;
  let older = []; // pages that the user requested
  const [top, end] = head("Events", "Search the archived events by correlation, type, subject, content or time.");
  const result = h("div", { class: "result" });
  const form = search(wanted, (asked) => go(eventsAt(asked)));
  main.append(top, form.element, result);

  const choose = (id) => {
    shown.filter((event) => event.id === id).forEach((event) => open.add(rowId(event)));
    draw();
    const row = result.querySelector(`[data-event="${CSS.escape(id)}"]`);
    row.scrollIntoView({ block: "center" });
    row.querySelector("summary").focus({ preventScroll: true });
  };

  /** Show the versions of an event with their personal data; the archive writes this to its audit log. */
  async function decrypt(id) {
    try {
      const answer = await ask(`/decrypted-events/${encodeURIComponent(id)}`, { body: {} });
      answer.events.forEach((event) => decrypted.set(rowId(event), event));
      draw();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      speak(error.message);
    }
  }

  function draw() {
    const all = [...shown, ...older].map((event) => decrypted.get(rowId(event)) ?? (mayDecrypt && hasPersonalData(event) ? { ...event, [DECRYPT]: () => decrypt(event.id) } : event));
    if (all.length === 0) return fill(result, nothing("search", "Nothing found", isStory ? "No event of this correlation is archived." : "No event matches these conditions. New events appear automatically."));
    return fill(result, isStory ? told(all, open, result.clientWidth || 900, choose) : listed(all, open), next !== null && h("button", { class: "button plain", type: "button", "data-key": "older", onclick: more }, "Older"));
  }

  async function look(signal) {
    const limit = isStory ? STORY : PAGE;
    try {
      const page = await ask("/events", { query: { ...wanted, limit }, signal });
      if (!failed && JSON.stringify(page.events) === JSON.stringify(shown) && shown.length) return;
      failed = false;
      const first = shown.length === 0;
      const kept = pushedOut(shown, page.events);
      if (older.length === 0 || kept === null) [older, next] = [[], page.next];
      else older = [...kept, ...older];
      shown = page.events;
      draw();
      if (first) speak(`${many(shown.length, "event")}${page.next === null ? "" : " and more"} found`);
    } catch (error) {
      if (!(error instanceof Problem) || (error.status === 0 && shown.length)) throw error;
      failed = true;
      fill(result, alert("The search failed.", error.message));
      if (error.status === 0) throw error;
    }
  }

  async function more() {
    try {
      const page = await ask("/events", { query: { ...wanted, limit: PAGE, cursor: next } });
      older = [...older, ...page.events];
      ({ next } = page);
      draw();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      speak(error.message);
    }
  }

  result.addEventListener("toggle", ({ target }) => (target.open ? open.add(target.dataset.open) : open.delete(target.dataset.open)), true);
  ask("/console/me").then(
    (me) => {
      mayDecrypt = me.personal;
      if (shown.length) draw();
    },
    (error) => {
      if (!(error instanceof Problem)) throw error; // the page shows at its top that the archive is unavailable
    },
  );
  const stop = repeatedly(look, EVERY);
  const unfollow = follow(["map"], form.suggest);
  return () => {
    [stop, unfollow, end].forEach((each) => each());
  };
}

/** Key of the function that decrypts an event, where the visitor may do so. */
const DECRYPT = Symbol("decrypt");
const hasPersonalData = ({ data }) => JSON.stringify(data ?? null).includes('"encrypted:v1:');

/** The versions of one event have the same id, and a row each. */
const rowId = ({ id, version, topic }) => `${id} ${version} ${topic}`;

/**
 * Return the events that new ones have pushed off the first page; null if there may be a gap between the two pages.
 */
function pushedOut(before, now) {
  const there = new Set(now.map(rowId));
  const gone = before.filter((event) => !there.has(rowId(event)));
  return gone.length === before.length && before.length ? null : gone;
}

function search(wanted, search) {
  const types = h("datalist", { id: "types" });
  const { labelled, values } = searchFields(wanted, SPECIAL);
  const narrow = NAMES.some((name) => name !== "correlationId" && wanted[name]);
  const element = h(
    "form",
    {
      class: "search card",
      role: "search",
      onsubmit: (event) => {
        event.preventDefault();
        search(values());
      },
    },
    h("div", { class: "search-main" }, labelled("correlationId", "Correlation id, such as an order's"), h("button", { class: "button", type: "submit" }, icon("search"), "Find"), NAMES.some((name) => wanted[name]) && h("a", { class: "button plain", href: "/console/events" }, "All events")),
    h("details", { class: "more-conditions", open: narrow }, h("summary", null, "More filters"), h("div", { class: "fields" }, labelled("type", "Type"), labelled("subject", "Subject"), labelled("q", "Text"), labelled("since", "Happened from"), labelled("until", "Happened before"))),
    types,
  );
  const suggest = () => fill(types, state.map.types.flatMap(({ type, versions }) => [h("option", { value: type }), ...versions.map(({ name }) => h("option", { value: `${type}.${name}` }))]));
  return { element, suggest };
}

const SPECIAL = {
  correlationId: { type: "search", placeholder: "0193f0c4-6a2e-…", spellcheck: "false" },
  type: { list: "types", placeholder: "orders.orderPlaced, or orders.*", spellcheck: "false" },
  since: MOMENT_FIELD,
  until: MOMENT_FIELD,
};

/** The rows, latest first. */
function listed(found, open) {
  return [h("p", { class: "soft small" }, "Latest first. New events appear at the top."), h("ol", { class: "events card" }, found.map((event) => row(event, open, moment(event.time), h("span", { class: "about" }, event.subject), h("span", { class: "soft" }, ago(event.time)))))];
}

/** One correlation: its timeline, and its events in order. */
function told(found, open, width, choose) {
  const ordered = [...found].reverse().sort((one, other) => Date.parse(one.time) - Date.parse(other.time));
  const start = Date.parse(ordered[0].time);
  const types = new Map(ordered.map((event) => [event.id, event.type]));
  const took = Date.parse(ordered.at(-1).time) - start;
  return [
    h("div", { class: "summary" }, h("div", null, h("h2", null, "Events of one correlation"), h("p", { class: "soft" }, `${many(ordered.length, "event")} of ${many(new Set(ordered.map(({ source }) => source)).size, "service")} in ${span(took)}, from ${moment(ordered[0].time)}`)), h("a", { class: "button plain small-button", href: replaysAt({ correlationId: ordered[0].correlationid }) }, icon("replay"), "Replay to a consumer")),
    h("div", { class: "story-scroll card", tabindex: 0, role: "region", "aria-label": "Timeline of the events" }, timeline(ordered, Math.max(620, width - 34), choose)),
    h("ol", { class: "events card timeline" }, ordered.map((event) => row(event, open, `+${span(Date.parse(event.time) - start)}`, cause(event, types)))),
  ];
}

const cause = ({ causationid }, types) => (types.has(causationid) ? h("span", { class: "soft" }, `after ${types.get(causationid)}`) : h("span"));

function row(event, open, when, ...aside) {
  const id = rowId(event);
  const { data, raw, ...attributes } = event;
  return h(
    "li",
    { "data-event": event.id },
    h(
      "details",
      { "data-open": id, open: open.has(id) },
      h("summary", { "data-key": id }, h("time", { datetime: event.time, title: clock(event.time) }, when), service(event.source ?? "unknown"), h("span", { class: "what" }, h("b", null, event.type ?? "unreadable"), event.version && h("span", { class: "version active" }, `v${event.version}`)), aside),
      h(
        "div",
        { class: "inside" },
        h("dl", { class: "facts" }, Object.entries(attributes).filter(([, value]) => value !== "").map(([name, value]) => [h("dt", null, name), h("dd", null, attribute(name, value))])),
        json(raw ?? data ?? null),
        event[DECRYPT] && h("button", { class: "button plain small-button", type: "button", onclick: event[DECRYPT] }, "Show personal data"),
      ),
    ),
  );
}

const LINKED = { correlationid: "correlationId", subject: "subject", type: "type" };
const attribute = (name, value) => (name in LINKED && typeof value === "string" && value ? h("a", { href: `/console/events${spelled({ [LINKED[name]]: value })}` }, value) : typeof value === "string" ? value : JSON.stringify(value));
