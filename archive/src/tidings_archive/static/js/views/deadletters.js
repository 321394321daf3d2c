/** The view of dead letters: filter, inspect, replay and discard them. */

import { ask, Problem, repeatedly } from "../api.js";
import { fill, h, speak } from "../dom.js";
import { icon } from "../icons.js";
import { alert, deadLettersAt, head, json, MOMENT_FIELD, nothing, replaysAt, searchFields, service, story } from "../parts.js";
import { follow, state } from "../state.js";
import { ago, many, moment } from "../words.js";
import { discard, redrive, replay } from "./decisions.js";

const EVERY = 3000; // milliseconds
const PAGE = 50;
const NAMES = ["app", "state", "subscription", "type", "correlationId", "reason", "since", "until"];
const STATES = { open: "Open", sent: "Sent again", handled: "Handled", dropped: "Dropped", discarded: "Discarded", any: "All" };
const OUTCOMES = { unconfirmed: "sent again, not confirmed yet", failed: "failed again after a replay", unread: "sent again, but read by nobody", dropped: "sent again, and dropped by its handler", handled: "handled after a replay" };

/** The SDK refuses an event without a version again; an app without the SDK, whose dead letters have no error, may read it. */
const sendable = ({ version, error }) => version > 0 || !error;

export function deadLetters(main, { go, query }) {
  const wanted = Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""]));
  wanted.state ||= "open";
  const cursor = query.get("before") ?? "";
  const chosen = new Set(); // numbers
  const details = new Map(); // by number, of those that are expanded
  let letters = [];
  let next = null;
  let seen = "";

  const form = conditions(wanted, (asked) => go(deadLettersAt({ ...wanted, ...asked })));
  const [top, end] = head("Dead letters", "Events that a subscription could not handle. Send them again, or discard them.");
  const filters = h("div", { class: "filters" });
  const bulk = h("div", { class: "bulk", role: "region", "aria-label": "Selected dead letters" });
  const result = h("div", { class: "result" });
  const audit = deeds();
  main.append(top, filters, form.element, bulk, result, audit.element);

  const done = () => {
    chosen.clear();
    details.clear();
    stop();
    stop = repeatedly(look, EVERY);
    state.look().catch(passing);
    audit.look();
  };

  function draw() {
    const open = letters.filter(({ state: stands }) => stands === "open");
    const picked = letters.filter(({ number }) => chosen.has(number));
    const toSend = picked.filter(sendable);
    fill(bulk, open.length > 1 && [
      h("label", { class: "switch" }, h("input", { type: "checkbox", "data-key": "every", checked: picked.length === open.length, onchange: ({ target }) => chooseAll(open, target.checked) }), "Select all shown"),
      h("span", { class: "soft" }, picked.length ? `${picked.length} selected` : `${many(open.length, "open dead letter")}`),
      h("button", { class: "button small-button", type: "button", disabled: !toSend.length, onclick: () => replay(toSend, done) }, icon("replay"), "Send selected again"),
      h("button", { class: "button warn small-button", type: "button", disabled: !picked.length, onclick: () => discard(picked, done) }, icon("discard"), "Discard selected"),
      wanted.state === "open" && h("button", { class: "button plain small-button", type: "button", "data-key": "redrive", onclick: () => redrive(wanted, () => go(replaysAt({}))) }, icon("replay"), "Send all matching again…"),
    ]);
    if (letters.length === 0) return fill(result, nothing("check", wanted.state === "open" ? "No open dead letters" : "No dead letters", isFiltered(wanted) ? `No dead letters match these conditions${next === null ? "." : " on this page; older ones may."}` : "All events were handled, and all dead letters were sent again or discarded."), pages());
    const own = letters.some(({ app, state: stands }) => app === "archive" && stands === "open");
    const note = own && h("p", { class: "soft" }, "Some of these are dead letters of the archive itself, which could not store or process them.");
    return fill(result, note, h("ul", { class: "letters" }, letters.map((letter) => card(letter))), pages());
  }

  function pages() {
    return (cursor || next !== null) && h("nav", { class: "after", "aria-label": "Pages" }, cursor && h("a", { class: "button plain", href: deadLettersAt(wanted) }, "Latest"), next !== null && h("a", { class: "button plain", href: deadLettersAt({ ...wanted, before: next }) }, "Older"));
  }

  function drawFilters() {
    const apps = [...new Set([...Object.keys(state.live.deadLetters), wanted.app, ...letters.map(({ app }) => app)])].filter(Boolean).sort();
    const pick = h("select", { id: "app", class: "field", "data-key": "app", onchange: () => go(deadLettersAt({ ...wanted, app: pick.value })) }, h("option", { value: "" }, "All services"), apps.map((app) => h("option", { value: app, selected: app === wanted.app }, app)));
    fill(filters, h("div", { class: "tabs", role: "group", "aria-label": "State" }, Object.entries(STATES).map(([name, label]) => h("a", { href: deadLettersAt({ ...wanted, state: name }), "aria-current": name === wanted.state && "page", "data-key": name }, label))), h("label", { class: "unseen", for: "app" }, "Service"), pick);
  }

  function chooseAll(open, all) {
    open.forEach(({ number }) => (all ? chosen.add(number) : chosen.delete(number)));
    draw();
  }

  async function toggle(letter) {
    if (details.has(letter.number)) details.delete(letter.number);
    else details.set(letter.number, await ask(`/deadletters/${letter.number}`));
    draw();
  }

  function card(letter) {
    const whole = details.get(letter.number);
    const id = `letter-${letter.number}`;
    const isOpen = letter.state === "open";
    const check = ({ target }) => {
      if (target.checked) chosen.add(letter.number);
      else chosen.delete(letter.number);
      draw();
    };
    return h(
      "li",
      null,
      h(
        "article",
        { class: `letter card ${letter.state}`, "aria-labelledby": id },
        isOpen && h("input", { class: "pick", type: "checkbox", checked: chosen.has(letter.number), "data-key": `pick ${letter.number}`, "aria-label": `Select dead letter ${letter.number}`, onchange: check }),
        h(
          "div",
          { class: "letter-main" },
          h("h2", { id }, letter.type, h("span", { class: "version active" }, letter.version ? `v${letter.version}` : "no version"), !isOpen && h("span", { class: "tag" }, STATES[letter.state].toLowerCase())),
          h("p", { class: "failed" }, service(letter.app), h("span", null, letter.subscription ?? "unknown subscription"), h("span", { class: "soft" }, "failed ", h("time", { datetime: letter.receivedAt, title: moment(letter.receivedAt) }, ago(letter.receivedAt)))),
          h("p", { class: "reason" }, letter.error && h("b", null, `${letter.error}: `), letter.reason),
          isOpen && !sendable(letter) && h("p", { class: "soft small" }, "It cannot be sent again: its version cannot be read, so no handler accepts it. Ask its producer to publish a correct event, and discard this one."),
          h("p", { class: "soft small" }, [letter.attempts ? many(letter.attempts, "attempt") : null, letter.failures > 1 ? `failed ${letter.failures} times` : null, letter.subject && `about ${letter.subject}`, letter.replay && `${OUTCOMES[letter.replay.outcome]}${letter.replay.reason ? `: ${letter.replay.reason}` : ""}`].filter(Boolean).join(" · ")),
        ),
        h(
          "div",
          { class: "letter-actions" },
          !["handled", "discarded"].includes(letter.state) && sendable(letter) && h("button", { class: "button small-button", type: "button", "data-key": `replay ${letter.number}`, onclick: () => replay([letter], done) }, icon("replay"), "Send again"),
          isOpen && h("button", { class: "button warn small-button", type: "button", "data-key": `discard ${letter.number}`, onclick: () => discard([letter], done) }, icon("discard"), "Discard"),
          h("button", { class: "text-button", type: "button", "data-key": `show ${letter.number}`, "aria-expanded": String(Boolean(whole)), onclick: () => toggle(letter).catch(passing) }, whole ? "Hide details" : "Details"),
          letter.correlationId && story(letter.correlationId),
        ),
        whole && h("div", { class: "inside" }, json(whole.event), whole.audit.length > 0 && list(whole.audit)),
      ),
    );
  }

  async function look(signal) {
    try {
      const page = await ask("/deadletters", { query: { ...wanted, limit: PAGE, cursor }, signal });
      const now = JSON.stringify([page, state.live.deadLetters]);
      if (now === seen) return;
      if (seen && page.deadLetters.length > letters.length) speak(`${many(page.deadLetters.length, "dead letter")} now`);
      seen = now;
      letters = page.deadLetters;
      ({ next } = page);
      const there = new Set(letters.map(({ number }) => number));
      chosen.forEach((number) => there.has(number) || chosen.delete(number));
      drawFilters();
      draw();
    } catch (error) {
      if (error instanceof Problem && error.status) {
        seen = ""; // the reason has replaced what was shown
        fill(result, alert("The dead letters cannot be read.", error.message));
      }
      throw error;
    }
  }

  drawFilters();
  let stop = repeatedly(look, EVERY);
  const unfollow = follow(["map"], form.suggest);
  return () => {
    [stop, unfollow, end].forEach((each) => each());
  };
}

/** The filters besides service and state. */
function conditions(wanted, search) {
  const [subscriptions, types] = [h("datalist", { id: "subscriptions" }), h("datalist", { id: "types" })];
  const { subscription, type, reason, since, until } = wanted;
  const { labelled, values } = searchFields({ subscription, type, reason, since, until }, SPECIAL);
  const submit = (event) => {
    event.preventDefault();
    search(values());
  };
  const element = h(
    "form",
    { role: "search", class: "search card", onsubmit: submit },
    h("details", { class: "more-conditions", open: isFiltered({ ...wanted, app: "" }) }, h("summary", null, "More filters"), h("div", { class: "fields" }, labelled("subscription", "Subscription"), labelled("type", "Type"), labelled("reason", "Part of the reason"), labelled("since", "Arrived from"), labelled("until", "Arrived before")), h("div", { class: "row" }, h("button", { class: "button small-button", type: "submit" }, icon("search"), "Find"), h("a", { class: "button plain small-button", href: deadLettersAt({ state: wanted.state }) }, "All dead letters"))),
    subscriptions,
    types,
  );
  const suggest = () => {
    fill(subscriptions, state.map.subscriptions.filter(({ app }) => !wanted.app || app === wanted.app).map(({ name }) => h("option", { value: name })));
    fill(types, state.map.types.map((each) => h("option", { value: each.type })));
  };
  return { element, suggest };
}

const SPECIAL = {
  subscription: { list: "subscriptions", spellcheck: "false" },
  type: { list: "types", placeholder: "kitchen.pizzaBoxed", spellcheck: "false" },
  reason: { placeholder: "no free shelf" },
  since: MOMENT_FIELD,
  until: MOMENT_FIELD,
};
const isFiltered = (wanted) => NAMES.some((name) => name !== "state" && wanted[name]);

/** Announce a problem; the top of the page shows whether the archive responds. */
function passing(error) {
  if (!(error instanceof Problem)) throw error;
  speak(error.message);
}

const list = (audit) => h("ol", { class: "audit" }, audit.map(({ at, who, action, target, detail }) => h("li", null, h("time", { datetime: at, title: moment(at) }, ago(at)), h("b", null, who), h("span", null, `${action}${target ? ` ${target}` : ""}`), detail && h("span", { class: "soft" }, detail))));

/** The latest entries of the audit log, requested when it is expanded. */
function deeds() {
  const inside = h("div");
  const look = async () => {
    if (!element.open) return;
    const { entries: found } = await ask("/audit", { query: { limit: 30 } });
    fill(inside, found.length ? list(found) : h("p", { class: "soft" }, "No entries yet."));
  };
  const element = h("details", { class: "deeds", ontoggle: () => look().catch(passing) }, h("summary", null, "Audit log"), inside);
  return { element, look: () => look().catch(passing) };
}
