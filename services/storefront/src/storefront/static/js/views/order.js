/** The view of one order: its state, next steps and history. */

import { ask, Problem } from "../api.js";
import { catalogue, itemFor } from "../catalogue.js";
import { fill, h, speak } from "../dom.js";
import { icon } from "../icons.js";
import { follow } from "../live.js";
import { pizza } from "../pizza.js";
import { basket, orders } from "../store.js";
import { clock, day, fromOrders, merge, money, shortId, steps } from "../words.js";

const TOO_LATE = new Set(["outForDelivery", "collected", "delivered", "completed", "cancelled"]);
const LINKS = { connecting: "Connecting…", live: "Live", waiting: "Reconnecting…", hidden: "Paused" };

export function order(main, { id, go }) {
  const seen = { tracked: null, asked: orderedHere(id), link: "connecting", problem: null, refusal: null, entries: new Set() };
  const link = h("span", { class: "link", role: "status" });
  const now = h("section", { class: "now card", "aria-labelledby": "where" });
  const past = h("section", { class: "panel card", "aria-labelledby": "happened" });
  const bill = h("aside", { class: "panel card", "aria-label": "What was ordered" });
  const head = h("div", { class: "order-head" }, h("h1", { tabindex: -1 }, `Order ${shortId(id)}`), link);
  main.append(head, h("div", { class: "order" }, h("div", { class: "order-main" }, now, past), bill));

  let said = null;
  const draw = () => {
    const told = merge(seen.tracked, seen.asked);
    link.dataset.state = seen.link;
    link.hidden = Boolean(told?.finished);
    link.textContent = linkText(seen, told);
    now.className = `now card ${told?.stage === "cancelled" ? "cancelled" : told?.finished ? "finished" : ""}`;
    fill(now, whereItIs(told, seen.refusal, { cancel: () => confirmCancel(() => cancel(id, seen, draw)), again: () => orderAgain(told, go) }));
    fill(past, happened(told, seen.entries));
    fill(bill, ordered(told, id));
    if (!told) return;
    orders.update(id, told.stage, told.finished);
    document.title = `${told.message} · Order ${shortId(id)}`;
    if (said !== null && said !== told.message) speak(`${told.message} ${told.next ?? ""}`);
    said = told.message;
  };
  const lookElsewhere = () => askOrders(id, seen, draw, () => main.replaceChildren(unknown(id)));
  const stop = follow(
    `/api/track/${id}/stream`,
    (told) => {
      seen.tracked = { ...seen.tracked, ...told }; // the message changes with the stage only
      draw();
    },
    (state, problem) => {
      Object.assign(seen, { link: state, problem: problem ?? null });
      draw();
      if (problem || (state === "live" && !merge(seen.tracked, seen.asked))) lookElsewhere();
    },
  );
  catalogue.addEventListener("change", draw);
  draw();
  return () => {
    stop();
    catalogue.removeEventListener("change", draw);
  };
}

/** An order that this browser placed, before tracking knows it. */
function orderedHere(id) {
  const known = orders.find(id);
  if (!known) return null;
  const ended = known.stage === "cancelled" ? "This order was cancelled." : "This order is complete.";
  const timeline = [{ id: "here", type: "orders.orderPlaced", time: known.placedAt, words: "You placed the order.", source: "this page" }];
  return { ...known, message: known.finished ? ended : "We have your order.", next: null, reason: null, timeline, updatedAt: known.placedAt };
}

/** Ask orders while tracking is unavailable or does not know the order yet. */
async function askOrders(id, seen, draw, onUnknown) {
  try {
    seen.asked = fromOrders(await ask(`/api/orders/${id}`));
    draw();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 404 && !merge(seen.tracked, seen.asked)) onUnknown();
  }
}

function linkText({ link, problem }, told) {
  if (link !== "waiting") return LINKS[link];
  if (problem?.service) return "Live view is away: asking the order desk";
  if (problem?.status === 0 && told) return `Not connected, as of ${clock(told.updatedAt)}`;
  return LINKS.waiting;
}

function whereItIs(told, refusal, actions) {
  if (!told) return [h("p", { class: "overline" }, "One moment"), h("h2", { id: "where" }, "Looking for your order…")];
  const cancelled = told.stage === "cancelled";
  return [
    h("p", { class: "overline" }, cancelled ? "Cancelled" : told.finished ? "Done" : "Right now"),
    h("h2", { id: "where" }, told.message),
    told.next && h("p", { class: "next" }, !cancelled && h("b", null, "Next: "), told.next),
    told.stage === "shelved" && told.pickupCode && h("p", { class: "code" }, h("span", null, "Your code at the counter"), h("b", null, told.pickupCode)),
    h("ol", { class: "steps", "aria-label": "Steps" }, steps(told).map(step)),
    refusal && !told.finished && h("div", { class: "alert", role: "alert" }, icon("warning"), h("strong", null, "It was not cancelled."), h("span", null, refusal)),
    h(
      "div",
      { class: "row" },
      !told.finished && !TOO_LATE.has(told.stage) && h("button", { type: "button", class: "button warn", "data-key": "cancel", onclick: actions.cancel }, "Cancel the order"),
      told.finished && told.lines && h("button", { type: "button", class: "button", "data-key": "again", onclick: actions.again }, "Order this again"),
      told.finished && h("a", { class: "button plain", href: "/", "data-key": "menu" }, "To the menu"),
    ),
  ];
}

const SPOKEN = { done: "done", now: "going on", ahead: "to come", missed: "not reached" };

function step({ name, time, state }, index) {
  const picture = state === "done" ? icon("check") : state === "missed" ? icon("cross") : h("span", { class: "number" }, index + 1);
  return h(
    "li",
    { class: state === "now" ? "now-step" : state, "aria-current": state === "now" ? "step" : null },
    h("span", { class: "dot", "aria-hidden": "true" }, picture),
    h("b", null, name, h("span", { class: "unseen" }, `, ${SPOKEN[state]}`)),
    time ? h("time", { datetime: time }, clock(time)) : h("span"),
  );
}

function happened(told, entries) {
  const first = entries.size === 0;
  const rows = (told?.timeline ?? []).map((entry) => {
    const fresh = !first && !entries.has(entry.id);
    entries.add(entry.id);
    return h("li", { class: fresh ? "fresh" : null, "data-type": entry.type }, h("time", { datetime: entry.time }, clock(entry.time)), h("span", null, entry.words, h("span", { class: "from" }, entry.source)));
  });
  return [h("h2", { id: "happened" }, "What has happened"), rows.length ? h("ol", { class: "timeline" }, rows.reverse()) : h("p", { class: "soft" }, "Nothing has been heard yet.")];
}

function ordered(told, id) {
  const lines = told?.lines ?? [];
  const address = told?.address;
  return [
    h("h2", null, told?.fulfilment === "delivery" ? "For delivery" : "To collect"),
    h("ul", { class: "bill" }, lines.map(({ sku, name, quantity, unitPriceCents }) => {
      const price = unitPriceCents ?? itemFor(sku).priceCents;
      return h("li", null, pizza(itemFor(sku, name), { label: false }), h("span", null, `${quantity} × ${name ?? itemFor(sku).name}`), h("span", { class: "price" }, price === null ? "" : money(price * quantity)));
    })),
    Number.isInteger(told?.totalCents) && h("p", { class: "sum" }, h("span", null, "Total"), h("span", null, money(told.totalCents))),
    h("dl", { class: "facts" }, h("dt", null, "Number"), h("dd", null, id), told?.placedAt && [h("dt", null, "Ordered"), h("dd", null, day(told.placedAt))], address && [h("dt", null, "To"), h("dd", null, `${address.street}, ${address.postcode} ${address.city}`)]),
  ];
}

function confirmCancel(onSure) {
  const close = () => dialog.close();
  const sure = () => {
    close();
    onSure();
  };
  const dialog = h(
    "dialog",
    { class: "card sure", "aria-labelledby": "sure", onclose: () => dialog.remove() },
    h("h2", { id: "sure" }, "Cancel this order?"),
    h("p", null, "The kitchen stops, and whatever was taken from your card goes back."),
    h("div", { class: "row" }, h("button", { type: "button", class: "button plain", onclick: close }, "Keep it"), h("button", { type: "button", class: "button warn", onclick: sure }, "Yes, cancel it")),
  );
  document.body.append(dialog);
  dialog.showModal();
}

async function cancel(id, seen, draw) {
  try {
    seen.asked = fromOrders(await ask(`/api/orders/${id}/cancel`, { method: "POST" }));
    seen.refusal = null;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    seen.refusal = error.message;
  }
  draw();
}

function orderAgain({ lines }, go) {
  for (const { sku, quantity } of lines) basket.set(sku, basket.quantity(sku) + quantity);
  go("/checkout");
}

const unknown = (id) =>
  h("section", { class: "lonely" }, h("h1", { tabindex: -1 }, "We know of no such order"), h("p", null, `Nobody has ordered under ${id}. Is the address complete?`), h("a", { class: "button", href: "/orders" }, "My orders"));
