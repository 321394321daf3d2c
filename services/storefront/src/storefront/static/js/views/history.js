/** The view of this browser's orders. */

import { ask, Problem } from "../api.js";
import { catalogue, itemFor } from "../catalogue.js";
import { fill, h } from "../dom.js";
import { pizza } from "../pizza.js";
import { onChange } from "../storage.js";
import { orders } from "../store.js";
import { day, money, stageName } from "../words.js";

const MOST_ASKED = 10;

export function history(main) {
  const list = h("div");
  main.append(h("h1", { tabindex: -1 }, "My orders"), list);
  const draw = () => fill(list, orders.all().length ? [h("ul", { class: "history" }, orders.all().map(entry)), forget()] : none());
  const stop = onChange("orders", draw);
  catalogue.addEventListener("change", draw);
  draw();
  orders.all().filter((order) => !order.finished).slice(0, MOST_ASKED).forEach(refresh);
  return () => {
    stop();
    catalogue.removeEventListener("change", draw);
  };
}

async function refresh({ orderId }) {
  try {
    const { stage, finished } = await ask(`/api/track/${orderId}`);
    orders.update(orderId, stage, finished);
  } catch (error) {
    if (!(error instanceof Problem)) throw error; // its last known state is shown
  }
}

function entry({ orderId, lines, placedAt, totalCents, stage, finished }) {
  const state = stage === "cancelled" ? "cancelled" : finished ? "done" : "";
  return h(
    "li",
    null,
    h(
      "a",
      { class: "card", href: `/orders/${orderId}`, "data-key": orderId },
      pizza(itemFor(lines[0].sku, lines[0].name), { label: false }),
      h("span", { class: "what" }, lines.map(({ quantity, name }) => `${quantity} × ${name}`).join(", ")),
      h("span", { class: "price" }, money(totalCents)),
      h("span", { class: "soft small" }, h("time", { datetime: placedAt }, day(placedAt)), " ", h("span", { class: `stage ${state}` }, stageName(stage))),
    ),
  );
}

const forget = () => h("p", { class: "row" }, h("button", { type: "button", class: "text-button", "data-key": "forget", onclick: () => orders.forget() }, "Forget these orders on this device"));

const none = () =>
  h(
    "section",
    { class: "lonely" },
    pizza({ sku: "hungry", name: "", ingredients: ["wheat-dough", "tomato-sauce", "basil"], imageHint: "" }, { label: false }),
    h("h2", null, "No orders on this device yet"),
    h("p", null, "What you order here is listed here: with its progress while it is made, and for ordering again afterwards."),
    h("a", { class: "button", href: "/" }, "To the menu"),
  );
