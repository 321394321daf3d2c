/** Dialogs that replay or discard dead letters, after a dry run. */

import { ask, Problem } from "../api.js";
import { sure } from "../dialog.js";
import { fill, h } from "../dom.js";
import { json, service } from "../parts.js";
import { state } from "../state.js";
import { many, number } from "../words.js";

/** Confirm that these dead letters are to be sent again; `done` is called after each attempt. */
export function replay(letters, done) {
  const open = letters.filter(({ state: stands }) => stands !== "discarded");
  const choice = unknown(open);
  const dry = h("div", { class: "dry", "aria-live": "polite" }, h("p", { class: "soft" }, "Dry run…"));
  const body = (letter) => (letter.subscription ? {} : { subscription: choice.value });
  const dialog = sure({
    title: `Send ${many(letters.length, "event")} again?`,
    action: "Send again",
    icon: "replay",
    content: [h("p", null, "Only the subscription that failed receives it, with the same id and time. Its inbox drops events that it has already handled."), choice.element, dry],
    work: (by, progress) => each(open, progress, (letter) => ask(`/deadletters/${letter.number}/replay`, { body: { by, ...body(letter) } }), done),
  });
  const rehearse = async () => {
    dialog.allow(false);
    const results = await Promise.all(open.map((letter) => tried(() => ask(`/deadletters/${letter.number}/replay`, { query: { dryRun: true }, body: { by: "dry run", ...body(letter) } }))));
    const can = results.filter(({ answer }) => answer);
    const refused = results.filter(({ problem }) => problem);
    dialog.allow(can.length > 0);
    fill(dry, rehearsed(can.map(({ answer }) => answer)), refused.length > 0 && h("p", { class: "problem" }, `${many(refused.length, "event")} cannot be sent: ${refused[0].problem}`));
  };
  choice.element?.addEventListener("change", rehearse);
  rehearse();
}

/** Confirm that all matching open dead letters are to be sent again, and their rate; `done` is called after the start. */
export function redrive({ app, subscription, type, correlationId, reason, since, until }, done) {
  const wanted = Object.fromEntries(Object.entries({ app, subscription, type, correlationId, reason, since, until }).filter(([, value]) => value));
  const dry = h("div", { class: "dry", "aria-live": "polite" }, h("p", { class: "soft" }, "Dry run…"));
  const rate = h("input", { id: "rate", class: "field", type: "number", min: 0.1, step: "any", inputmode: "decimal", value: 10 });
  const start = async (by) => {
    const { answer, problem } = await tried(() => ask("/deadletters/redrive", { body: { ...wanted, by, ratePerSecond: Number(rate.value) } }));
    if (answer) done();
    return problem ?? null;
  };
  const dialog = sure({
    title: "Send all matching dead letters again?",
    action: "Send again",
    icon: "replay",
    content: [h("p", null, "Each subscription receives the events that it could not handle, with the same ids and times. You can cancel this while it is running."), h("div", { class: "asked" }, h("label", { for: "rate" }, "Events per second, at most"), rate), dry],
    work: start,
  });
  dialog.allow(false);
  tried(() => ask("/deadletters/redrive", { query: { dryRun: true }, body: wanted })).then(({ answer, problem }) => {
    dialog.allow(Boolean(answer?.matched));
    fill(dry, answer ? counted(answer) : h("p", { class: "problem" }, problem));
  });
}

function counted({ matched, counts }) {
  return [
    h("p", null, `Dry run: ${many(matched, "event")} would go to`),
    h("ul", { class: "plain counts" }, Object.entries(counts).map(([name, count]) => h("li", null, name || "skipped, because their subscription is unknown", h("span", { class: "number count" }, number(count))))),
  ];
}

/** Confirm that these dead letters are to be discarded; `done` is called after each attempt. */
export function discard(letters, done) {
  const reason = h("textarea", { id: "reason", class: "field", rows: 2, maxlength: 1000, required: true, placeholder: "Why it is not needed" });
  const ready = () => {
    reason.toggleAttribute("aria-invalid", !reason.value.trim());
    if (!reason.value.trim()) reason.focus();
    return Boolean(reason.value.trim());
  };
  sure({
    title: `Discard ${many(letters.length, "dead letter")}?`,
    action: "Discard",
    icon: "discard",
    warn: true,
    content: [h("p", null, "It is kept here, but cannot be sent again."), h("div", { class: "asked" }, h("label", { for: "reason" }, "Reason"), reason)],
    ready,
    work: (by, progress) => each(letters, progress, (letter) => ask(`/deadletters/${letter.number}/discard`, { body: { by, reason: reason.value.trim() } }), done),
  });
}

async function tried(work) {
  try {
    return { answer: await work() };
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return { problem: error.message };
  }
}

/** Process the dead letters one after the other; return null, or what was refused. */
async function each(letters, progress, work, done) {
  const refused = [];
  for (const [index, letter] of letters.entries()) {
    progress(letters.length > 1 ? `${index + 1} of ${letters.length}…` : "…");
    const { problem } = await tried(() => work(letter));
    if (problem) refused.push(problem);
  }
  done();
  return refused.length ? `${many(refused.length, "event")} of ${letters.length} refused: ${refused[0]}` : null;
}

/** A field for the subscription of a dead letter that its sidecar sent, which does not name it. */
function unknown(letters) {
  const letter = letters.find(({ subscription }) => !subscription);
  if (!letter) return { element: null, value: "" };
  const names = state.map.subscriptions.filter(({ app, reads }) => app === letter.app && letter.type in reads).map(({ name }) => name);
  const field = names.length
    ? h("select", { id: "target", class: "field" }, names.map((name) => h("option", { value: name }, name)))
    : h("input", { id: "target", class: "field", placeholder: `A subscription of ${letter.app}` });
  const element = h("div", { class: "asked" }, h("label", { for: "target" }, "The failed subscription is unknown. Send it to"), field);
  return { element, get value() { return field.value; } };
}

function rehearsed(answers) {
  if (answers.length === 0) return null;
  const targets = [...new Map(answers.map((answer) => [answer.subscription, answer])).values()];
  return [
    h("p", null, `Dry run: ${many(answers.length, "event")} would go to`),
    h("ul", { class: "plain" }, targets.map(({ app, subscription, topic }) => h("li", null, service(app), h("b", null, subscription), h("span", { class: "soft small" }, `on ${topic}`)))),
    answers.length === 1 && h("details", null, h("summary", null, "What is sent"), json(answers[0].event)),
  ];
}
