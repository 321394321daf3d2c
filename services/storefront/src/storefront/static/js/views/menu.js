/** The view of the menu and the basket. */

import { showBasket, stepper, total } from "../basket.js";
import { catalogue } from "../catalogue.js";
import { fill, h, speak } from "../dom.js";
import { icon } from "../icons.js";
import { pizza } from "../pizza.js";
import { onChange } from "../storage.js";
import { basket, MOST_PIZZAS } from "../store.js";
import { clock, money, pizzas, together, words } from "../words.js";

const FACE = { sku: "the-house-pizza", name: "", imageHint: "", ingredients: ["wheat-dough", "tomato-sauce", "cashew-mozzarella", "cherry-tomato", "olives", "basil", "olive-oil"] };
const drawings = new Map(); // cached: a pizza has about 300 shapes

function drawing(item) {
  const key = JSON.stringify([item.sku, item.name, item.ingredients, item.imageHint]);
  if (!drawings.has(key)) drawings.set(key, pizza(item));
  return drawings.get(key);
}

export function menu(main, { go }) {
  const without = new Set();
  const filters = h("div", { class: "filters", role: "group", "aria-label": "Leave out allergens" });
  const list = h("ul", { class: "menu" });
  const note = h("div");
  const aside = h("aside", { class: "basket card", "aria-label": "Basket" });
  const bar = h("div", { class: "order-bar", hidden: true });
  main.append(
    hero(),
    h(
      "div",
      { class: "shop" },
      h("section", { "aria-labelledby": "menu-title" }, h("div", { class: "menu-head" }, h("h2", { id: "menu-title" }, "The menu"), filters), note, list),
      aside,
    ),
    bar,
  );

  const drawFilters = () => {
    const allergens = [...new Set(catalogue.items.flatMap((item) => item.allergens))].sort();
    const toggle = (name) => () => {
      if (!without.delete(name)) without.add(name);
      drawAll();
      speak(`${pizzas(shown().length)} ${without.size ? `without ${together([...without])}` : "on the menu"}`);
    };
    fill(
      filters,
      allergens.map((name) =>
        h("button", { type: "button", class: "chip", "aria-pressed": String(without.has(name)), "data-key": `without-${name}`, onclick: toggle(name) }, without.has(name) && icon("check"), `No ${words(name)}`),
      ),
    );
  };
  const shown = () => catalogue.items.filter((item) => !item.allergens.some((name) => without.has(name)));
  const drawList = () => {
    fill(note, state());
    if (!catalogue.items.length) fill(list, catalogue.fresh || catalogue.problem ? [] : skeleton());
    else fill(list, shown().length ? shown().map(card) : h("li", { class: "soft" }, "No pizza is without all of these. Ask for one thing less to leave out."));
  };
  const drawBar = () => {
    const count = basket.count();
    const sum = total();
    bar.hidden = count === 0;
    fill(bar, h("a", { class: "button", href: "/checkout", "data-key": "bar" }, h("span", null, `Basket: ${pizzas(count)}`), h("span", { class: "number" }, sum === null ? "Checkout" : money(sum))));
  };
  const drawAll = () => [drawFilters, drawList, drawBar].forEach((draw) => draw());

  const stops = [
    onChange("basket", () => [drawList, drawBar].forEach((draw) => draw())),
    showBasket(aside, (lines) => h("button", { type: "button", class: "button wide", disabled: !lines.length, "data-key": "to-checkout", onclick: () => go("/checkout") }, "Checkout", icon("arrow"))),
  ];
  catalogue.addEventListener("change", drawAll);
  drawAll();
  return () => {
    stops.forEach((stop) => stop());
    catalogue.removeEventListener("change", drawAll);
  };
}

function hero() {
  return h(
    "section",
    { class: "hero", "aria-labelledby": "title" },
    h(
      "div",
      null,
      h("h1", { id: "title", tabindex: -1 }, "Pizza, grown rather than raised."),
      h("p", null, "Every topping is a plant, and every order can be watched: from the dough being stretched to the knock on your door."),
    ),
    pizza(FACE, { label: false }),
  );
}

/** A notice about the whole menu. */
function state() {
  const { items, problem, at, fresh } = catalogue;
  if (problem && items.length) {
    return h("p", { class: "alert mild", "data-menu": "old" }, icon("warning"), h("strong", null, "This is the menu of ", h("time", null, clock(at)), "."), h("span", null, "It cannot be read just now. You can order all the same; if a price has changed since, you pay the current one."));
  }
  if (problem) return h("p", { class: "alert", "data-menu": "missing" }, icon("warning"), h("strong", null, "The menu cannot be shown."), h("span", null, `${problem.message} We keep trying.`));
  if (fresh && !items.length) return h("p", { class: "alert mild" }, icon("warning"), h("strong", null, "The menu is still being written."), h("span", null, "It appears here in a moment."));
  return null;
}

const skeleton = () => Array.from({ length: 6 }, () => h("li", { class: "card item", "aria-hidden": "true" }, h("div", { class: "waiting", "data-tall": "" }, "\u00a0"), h("p", { class: "waiting" }, "\u00a0")));

function card(item) {
  const out = item.missingIngredients ?? [];
  const title = `item-${item.sku}`;
  return h(
    "li",
    null,
    h(
      "article",
      { class: `card item${item.available ? "" : " gone"}`, "aria-labelledby": title, "data-sku": item.sku },
      drawing(item),
      h("div", { class: "item-head" }, h("h3", { id: title }, item.name), h("span", { class: "price" }, money(item.priceCents))),
      h("p", { class: "about" }, item.description),
      item.allergens.length ? h("p", { class: "contains" }, "Contains ", h("b", null, together(item.allergens.map(words)))) : h("p", { class: "contains" }, "Free of listed allergens"),
      h("div", { class: "act" }, action(item, out)),
    ),
  );
}

function action(item, out) {
  if (basket.quantity(item.sku)) return stepper(item, "menu");
  if (!item.available) return h("span", { class: "badge" }, icon("cross"), out.length ? `Sold out: no ${together(out.map(words))}` : "Sold out for now");
  const add = () => {
    speak(basket.set(item.sku, 1) ? `${item.name} is in your basket` : `An order has at most ${MOST_PIZZAS} pizzas`);
  };
  return h("button", { type: "button", class: "button", "data-key": `menu-add-${item.sku}`, "data-fallback": `menu-more-${item.sku}`, "aria-label": `Add ${item.name} to the basket`, onclick: add }, icon("plus"), "Add");
}
