/** The view of all orders, live, with a column for each phase. */

import { ask, Problem } from "../api.js";
import { fill, h } from "../dom.js";
import { icon } from "../icons.js";
import { follow } from "../live.js";
import { ago, COLUMNS, money, pizzas, shortId, stageName } from "../words.js";

const MOST = 300; // orders kept; the oldest finished ones are removed first
const SHOWN = 12; // in a column
const SECOND = 1000;
const MINUTE = 60 * SECOND;

export function board(main) {
  const known = new Map();
  let totals = null;
  const moved = new Set();
  const link = h("span", { class: "link", role: "status" }, "Connecting…");
  const figures = h("dl", { class: "figures" });
  const columns = h("div", { class: "board", role: "region", "aria-label": "Orders by where they are", tabindex: 0 });
  const note = h("div", { "aria-live": "polite" });
  main.append(h("div", { class: "board-head" }, h("h1", { tabindex: -1 }, "Live board"), link), figures, note, columns);

  const draw = () => {
    const orders = [...known.values()].sort((one, other) => Date.parse(other.updatedAt) - Date.parse(one.updatedAt));
    fill(figures, figuresOf(orders, totals));
    fill(columns, COLUMNS.map((column) => columnOf(column, orders.filter((order) => column.stages.includes(order.stage)), moved)));
    moved.clear();
  };
  const soon = once(draw);
  const take = (order) => {
    const before = known.get(order.orderId);
    if (before && Date.parse(before.updatedAt) > Date.parse(order.updatedAt)) return;
    if (before?.stage !== order.stage) moved.add(order.orderId);
    known.set(order.orderId, order);
    trim(known);
    soon();
    countSoon();
  };
  const count = async () => {
    try {
      totals = await ask("/api/totals");
      soon();
    } catch (error) {
      if (!(error instanceof Problem)) throw error; // the board shows that tracking is unavailable
    }
  };
  const countSoon = atMostEvery(SECOND, count);
  const load = async () => {
    try {
      const { orders } = await ask("/api/track?limit=100");
      orders.forEach(take);
      moved.clear();
      fill(note);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      fill(note, h("p", { class: "alert mild" }, icon("warning"), h("strong", null, "The board cannot be read."), h("span", null, error.message)));
    }
  };
  const stop = follow("/api/stream", take, (state) => {
    link.dataset.state = state;
    link.textContent = { connecting: "Connecting…", live: "Live", waiting: "Reconnecting…", hidden: "Paused" }[state];
    if (state === "live") load(); // events from before the connection
  });
  const timer = setInterval(soon, MINUTE / 2);
  count();
  draw();
  return () => {
    stop();
    clearInterval(timer);
  };
}

/** Draw once per frame, however many changes there are. */
function once(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

/** Call once after a pause, however many changes there are. */
function atMostEvery(pause, call) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      call();
    }, pause);
  };
}

function trim(known) {
  if (known.size <= MOST) return;
  const [oldest] = [...known.values()].sort((one, other) => Number(other.finished) - Number(one.finished) || Date.parse(one.updatedAt) - Date.parse(other.updatedAt));
  known.delete(oldest.orderId);
}

/** Totals of all orders, also of those that the page does not know. */
function figuresOf(orders, totals) {
  const lately = orders.filter((order) => Date.now() - Date.parse(order.updatedAt) < MINUTE);
  const figure = (number, name) => h("div", null, h("dt", null, name), h("dd", null, number));
  return [
    figure(totals?.open ?? "…", "on the way"),
    figure(totals?.done ?? "…", "done"),
    figure(totals?.cancelled ?? "…", "cancelled"),
    figure(lately.length, "moved in the last minute"),
    figure(totals ? money(totals.earnedCents) : "…", "earned"),
  ];
}

function columnOf({ name }, orders, moved) {
  const id = `column-${name.toLowerCase().replaceAll(" ", "-")}`;
  return h(
    "section",
    { class: "column", "aria-labelledby": id },
    h("h2", { id }, name, h("span", { class: "number" }, orders.length)),
    h("ul", null, orders.slice(0, SHOWN).map((order) => ticket(order, moved.has(order.orderId)))),
    orders.length > SHOWN && h("p", { class: "more" }, `and ${orders.length - SHOWN} more`),
  );
}

function ticket(order, moved) {
  const count = order.lines.reduce((sum, line) => sum + line.quantity, 0);
  const delivery = order.fulfilment === "delivery";
  return h(
    "li",
    null,
    h(
      "a",
      { class: `ticket${moved ? " moved" : ""}`, href: `/orders/${order.orderId}`, "data-key": order.orderId, "data-stage": order.stage },
      h("span", { class: "top-line" }, shortId(order.orderId), icon(delivery ? "bike" : "shop"), h("span", { class: "unseen" }, delivery ? "for delivery" : "to collect")),
      h("span", null, count ? `${pizzas(count)}, ${money(order.totalCents)}` : "not read yet"),
      h("span", { class: "told" }, stageName(order.stage), ", ", h("time", { datetime: order.updatedAt }, ago(order.updatedAt))),
    ),
  );
}
