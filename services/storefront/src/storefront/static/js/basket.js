/** The basket as a list, on the menu and at the checkout. */

import { catalogue, itemFor } from "./catalogue.js";
import { fill, h, speak } from "./dom.js";
import { icon } from "./icons.js";
import { pizza } from "./pizza.js";
import { onChange } from "./storage.js";
import { basket, MOST_PIZZAS } from "./store.js";
import { money, pizzas } from "./words.js";

/** The price of the basket; null if a price is unknown. */
export function total() {
  const prices = basket.lines().map(({ sku, quantity }) => [itemFor(sku).priceCents, quantity]);
  return prices.some(([price]) => price === null) ? null : prices.reduce((sum, [price, quantity]) => sum + price * quantity, 0);
}

/** The names of pizzas in the basket that are unavailable. */
export const missing = () => basket.lines().map(({ sku }) => itemFor(sku)).filter((item) => !item.available || (catalogue.fresh && !catalogue.find(item.sku))).map((item) => item.name);

/** Buttons that change a quantity. `where` distinguishes two steppers of the same pizza. */
export function stepper(item, where) {
  const quantity = basket.quantity(item.sku);
  const change = (by) => () => {
    const now = basket.set(item.sku, quantity + by);
    speak(now === quantity ? `An order has at most ${MOST_PIZZAS} pizzas` : `${now} × ${item.name} in your basket`);
  };
  const key = (name) => ({ "data-key": `${where}-${name}-${item.sku}`, "data-fallback": `${where}-add-${item.sku}` });
  return h(
    "div",
    { class: "stepper", role: "group", "aria-label": `How many ${item.name}` },
    h("button", { type: "button", "aria-label": `One ${item.name} fewer`, ...key("fewer"), onclick: change(-1) }, icon("minus")),
    h("output", null, quantity),
    h("button", { type: "button", "aria-label": `One ${item.name} more`, ...key("more"), disabled: !item.available || basket.count() >= MOST_PIZZAS, onclick: change(1) }, icon("plus")),
  );
}

function line({ sku, quantity }) {
  const item = itemFor(sku);
  const problem = !item.available ? "Sold out: take it out to go on" : catalogue.fresh && !catalogue.find(sku) ? "No longer on the menu" : null;
  return h(
    "li",
    null,
    pizza(item, { label: false }),
    h("span", { class: "name" }, item.name),
    h("span", { class: "price" }, item.priceCents === null ? "" : money(item.priceCents * quantity)),
    stepper(item, "basket"),
    problem && h("span", { class: "problem" }, problem),
  );
}

/** Show the basket in an element; `foot` makes the content below the total. Returns a function that stops the updates. */
export function showBasket(element, foot) {
  const draw = () => {
    const lines = basket.lines();
    const sum = total();
    fill(
      element,
      h("h2", null, "Your basket", h("span", { class: "soft small number" }, lines.length ? pizzas(basket.count()) : "")),
      lines.length
        ? [
            h("ul", { class: "basket-lines" }, lines.map(line)),
            h("p", { class: "sum" }, h("span", null, "Total"), h("span", null, sum === null ? "–" : money(sum))),
          ]
        : h("p", { class: "basket-empty" }, "Nothing in it yet. The Margherita is a safe way to start."),
      foot(lines),
    );
  };
  const stop = onChange("basket", draw);
  catalogue.addEventListener("change", draw);
  draw();
  return () => {
    stop();
    catalogue.removeEventListener("change", draw);
  };
}
