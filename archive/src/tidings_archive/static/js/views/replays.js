/** The view of replays: choose events and a consumer, count them with a dry run, send them. */

import { ask, polled, Problem } from "../api.js";
import { sure } from "../dialog.js";
import { fill, h, speak } from "../dom.js";
import { icon } from "../icons.js";
import { alert, head, MOMENT_FIELD, nothing, service } from "../parts.js";
import { follow, state } from "../state.js";
import { consumers, kindsOf } from "../system.js";
import { ago, instant, local, many, moment, number } from "../words.js";

const EVERY = 2000; // milliseconds
const LATEST = 20;
const WHICHEVER = "*";
const DEAD_LETTERS = "deadLetters";

export function replays(main, { keep, query }) {
  const [top, end] = head("Replays", "Send archived events to one consumer again. It drops those that it has already handled.");
  const past = latest();
  const form = order(query, keep, past.look);
  main.append(top, form.element, h("h2", { class: "after-form" }, "Latest replays"), past.element);
  const unfollow = follow(["map"], form.draw);
  return () => [past.stop, unfollow, end].forEach((each) => each());
}

/** The form of a new replay. A change removes the result of the last dry run. */
function order(query, keep, done) {
  let consumer = query.get("consumer") ?? "";
  let subscription = query.get("subscription") ?? "";
  const chosen = new Set(query.getAll("type"));
  const who = h("div", { class: "fields" });
  const kinds = h("fieldset", { class: "kinds" });
  const outcome = h("div", { "aria-live": "polite" });
  const aside = () => fill(outcome);
  const field = (name, props) => h("input", { id: `replay-${name}`, class: "field", autocomplete: "off", oninput: aside, ...props });
  const about = {
    correlationId: field("correlation", { type: "search", spellcheck: "false", value: query.get("correlationId") ?? "" }),
    since: field("since", { ...MOMENT_FIELD, value: local(query.get("since")) }),
    until: field("until", { ...MOMENT_FIELD, value: local(query.get("until")) }),
    rate: field("rate", { type: "number", min: 0.1, step: "any", inputmode: "decimal", placeholder: "default of the archive", value: query.get("rate") ?? "" }),
  };
  const labelled = (input, label) => h("div", { class: "find" }, h("label", { for: input.id }, label), input);
  const select = (id, names, onchange) => h("select", { id, class: "field", "data-key": id, onchange: ({ target }) => { onchange(target.value); aside(); draw(); } }, names);

  function draw() {
    const apps = consumers(state.map);
    if (!apps.length) return fill(element, nothing("warning", "No system map", state.unmapped ?? "Loading…"));
    if (!apps.includes(consumer)) [consumer] = apps;
    const own = state.map.subscriptions.filter(({ app, pattern }) => app === consumer && !pattern).map(({ name }) => name).sort();
    if (!own.includes(subscription)) subscription = "";
    const options = kindsOf(state.map, consumer, subscription);
    chosen.forEach((kind) => options.includes(kind) || chosen.delete(kind));
    fill(
      who,
      labelled(select("replay-consumer", apps.map((app) => h("option", { value: app, selected: app === consumer }, app)), (value) => { consumer = value; }), "Consumer"),
      labelled(select("replay-subscription", [h("option", { value: "" }, "Any that reads the type"), own.map((name) => h("option", { value: name, selected: name === subscription }, name))], (value) => { subscription = value; }), "Subscription"),
    );
    fill(kinds, h("legend", null, "Types ", h("span", { class: "soft" }, "all that it reads, if none is selected")), options.map(kind));
    return fill(element, ...parts);
  }

  const kind = (name) => h("label", { class: "switch" }, h("input", { type: "checkbox", checked: chosen.has(name), "data-key": `kind ${name}`, onchange: ({ target }) => { aside(); return target.checked ? chosen.add(name) : chosen.delete(name); } }), name);

  const asked = () => ({
    consumer,
    subscription: subscription || null,
    types: chosen.size ? [...chosen] : kindsOf(state.map, consumer, subscription),
    since: instant(about.since.value) || null,
    until: instant(about.until.value) || null,
    correlationId: about.correlationId.value.trim() || null,
    ratePerSecond: about.rate.value ? Number(about.rate.value) : null,
  });

  async function rehearse(event) {
    event.preventDefault();
    const wanted = asked();
    const { since, until, correlationId, ratePerSecond: rate } = wanted;
    keep({ consumer, subscription, type: [...chosen], correlationId, since, until, rate });
    try {
      const counted = await ask("/replays", { query: { dryRun: true }, body: wanted });
      fill(outcome, rehearsed(counted, wanted, () => send(wanted, counted.matched, () => { aside(); done(); })));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      fill(outcome, alert("These events cannot be sent again.", error.message));
    }
  }

  const parts = [
    who,
    kinds,
    h("div", { class: "fields" }, labelled(about.correlationId, "Correlation id"), labelled(about.since, "Happened from"), labelled(about.until, "Happened before"), labelled(about.rate, "Events per second, at most")),
    h("div", { class: "row" }, h("button", { class: "button plain", type: "submit" }, icon("search"), "Dry run"), h("span", { class: "soft small" }, "Counts only; nothing is sent.")),
    outcome,
  ];
  const element = h("form", { class: "search card", "aria-label": "Events to send again", novalidate: true, onsubmit: rehearse });
  return { element, draw };
}

function rehearsed({ matched, counts, consumer }, { ratePerSecond }, send) {
  if (!matched) return h("p", { class: "dry" }, "Dry run: no event matches.");
  return h(
    "div",
    { class: "dry" },
    h("p", null, "Dry run: ", h("b", null, many(matched, "event")), " would go to ", service(consumer), ratePerSecond && `, in ${number(Math.ceil(matched / ratePerSecond))} s or more`),
    h("ul", { class: "plain counts" }, Object.entries(counts).map(([kind, count]) => h("li", null, kind, h("span", { class: "number count" }, number(count))))),
    h("div", { class: "row" }, h("button", { class: "button", type: "button", onclick: send }, icon("replay"), `Send ${many(matched, "event")} again`)),
  );
}

function send(wanted, matched, done) {
  sure({
    title: `Send ${many(matched, "event")} to ${wanted.consumer} again?`,
    action: "Send again",
    icon: "replay",
    content: [h("p", null, "Only this consumer receives them, with the same ids and times. You can cancel this while it is running.")],
    work: (by) => carriedOut(() => ask("/replays", { body: { ...wanted, by } }), done),
  });
}

function cancel({ replayId, sent, matched }, done) {
  sure({
    title: "Cancel this replay?",
    action: "Cancel replay",
    icon: "cross",
    warn: true,
    content: [h("p", null, `${number(sent)} of ${many(matched, "event")} have been sent. The others will not be.`)],
    work: (by) => carriedOut(() => ask(`/replays/${encodeURIComponent(replayId)}/cancel`, { query: { by }, body: {} }), done),
  });
}

/** Run a change; return null, or the reason why it was refused. */
async function carriedOut(work, done) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return error.message;
  }
  done();
  return null;
}

/** The latest replays with their progress. */
function latest() {
  const element = h("div", { class: "result" });
  const draw = ({ replays: found }) => fill(element, found.length ? h("ul", { class: "letters" }, found.map((each) => h("li", null, card(each, again)))) : nothing("replay", "No replays yet", "Replays are listed here with their progress."));
  const start = () => polled("/replays", { limit: LATEST }, EVERY, draw, (reason) => fill(element, alert("The replays cannot be read.", reason)));
  let stop = start();
  const again = () => {
    speak("Done");
    stop();
    stop = start();
  };
  return { element, look: again, stop: () => stop() };
}

const MARKS = { running: "open", completed: "sent", cancelled: "discarded", failed: "open" };
const COUNTS = ["handled", "failed", "unread", "dropped", "unconfirmed", "skipped"];

function card(replay, done) {
  const { replayId, kind, state: stands, consumer, subscription, types, letterReason, since, until, correlationId, ratePerSecond, matched, sent, requestedAt, requestedBy, reason } = replay;
  const id = `replay-${replayId}`;
  const terms = [kind === DEAD_LETTERS && "dead letters", letterReason && `reason with “${letterReason}”`, types.length && many(types.length, "type"), since && `from ${moment(since)}`, until && `before ${moment(until)}`, correlationId && `correlation ${correlationId}`, `at most ${number(ratePerSecond)} a second`];
  return h(
    "article",
    { class: `letter run card ${MARKS[stands]}`, "aria-labelledby": id },
    h(
      "div",
      { class: "letter-main" },
      h("h2", { id }, service(consumer === WHICHEVER ? "all services" : consumer), subscription !== WHICHEVER && h("span", { class: "soft small" }, subscription), h("span", { class: "tag" }, stands)),
      h("p", { class: "sent" }, h("progress", { max: Math.max(matched, sent, 1), value: sent, "aria-label": "Sent" }), h("span", { class: "number" }, `${number(sent)} of ${many(matched, "event")}`)),
      h("p", { class: "small" }, COUNTS.filter((name) => replay[name]).map((name) => `${number(replay[name])} ${name}`).join(" · ")),
      reason && h("p", { class: "reason" }, reason),
      h("p", { class: "soft small" }, terms.filter(Boolean).join(" · ")),
      h("p", { class: "soft small" }, h("b", null, requestedBy), " requested it ", h("time", { datetime: requestedAt, title: moment(requestedAt) }, ago(requestedAt))),
    ),
    stands === "running" && h("div", { class: "letter-actions" }, h("button", { class: "button warn small-button", type: "button", "data-key": `cancel ${replayId}`, onclick: () => cancel(replay, done) }, icon("cross"), "Cancel replay")),
  );
}
