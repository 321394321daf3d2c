/** The page: which view an address shows, and what stands around every view. */

import { ask, health, Problem } from "./api.js";
import { catalogue } from "./catalogue.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { showNotices } from "./notices.js";
import { basket, onChange, read, write } from "./store.js";
import { board } from "./views/board.js";
import { checkout } from "./views/checkout.js";
import { history as past } from "./views/history.js";
import { menu } from "./views/menu.js";
import { nothing } from "./views/nothing.js";
import { order } from "./views/order.js";

/** A view fills `main` and answers how to leave it, or nothing where there is nothing to leave. */
const VIEWS = [
  { path: /^\/$/, nav: "menu", title: "Menu", show: menu },
  { path: /^\/checkout$/, nav: null, title: "Checkout", show: checkout },
  { path: /^\/orders$/, nav: "orders", title: "My orders", show: past },
  { path: /^\/orders\/([A-Za-z0-9-]{1,64})$/, nav: "orders", title: "Your order", show: order },
  { path: /^\/board$/, nav: "board", title: "Live board", show: board },
];
const main = document.getElementById("view");
let leave = null;

function show() {
  leave?.();
  const found = VIEWS.map((view) => [view, view.path.exec(location.pathname)]).find(([, match]) => match);
  const [view, match] = found ?? [{ nav: null, title: "Nothing here", show: nothing }, []];
  for (const link of document.querySelectorAll("[data-nav]")) {
    if (link.dataset.nav === view.nav) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view.title} · Plant-Based Pizza`;
  main.replaceChildren();
  leave = view.show(main, { go, id: match[1] }) ?? null;
}

/** Go to another view, as if its address had been opened. */
function go(path) {
  history.pushState(null, "", path);
  show();
  scrollTo(0, 0);
  (main.querySelector("h1") ?? main).focus({ preventScroll: true }); // so that the new view is read out
}

addEventListener("popstate", show);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  const elsewhere = event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;
  if (!link || elsewhere || link.target || link.origin !== location.origin || link.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  go(link.pathname);
});

function showCount() {
  const link = document.getElementById("basket-link");
  const count = basket.count();
  link.classList.toggle("empty", count === 0);
  link.setAttribute("aria-label", `Basket, ${count === 0 ? "empty" : count === 1 ? "1 pizza" : `${count} pizzas`}`);
  fill(link, icon("bag"), h("span", { class: "number" }, count));
}

const THEMES = { system: "as your system has them", light: "light", dark: "dark" };

function showTheme() {
  const names = Object.keys(THEMES);
  const chosen = names.includes(read("theme", "system")) ? read("theme", "system") : "system";
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  const button = document.getElementById("theme");
  const next = names[(names.indexOf(chosen) + 1) % names.length];
  button.setAttribute("aria-label", `Colours: ${THEMES[chosen]}. Change to ${next}`);
  button.title = `Colours: ${THEMES[chosen]}`;
  button.onclick = () => write("theme", next);
  fill(button, icon({ system: "system", light: "sun", dark: "moon" }[chosen]));
}

/** Offer the board where there is one; asked again once the storefront, being away, is back. */
async function offerBoard() {
  try {
    const { board: offered } = await ask("/api/shop");
    document.querySelector('[data-nav="board"]').hidden = !offered;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    health.addEventListener("change", offerBoard, { once: true });
  }
}

onChange("basket", showCount);
onChange("theme", showTheme);
showCount();
showTheme();
showNotices(document.getElementById("notices"));
offerBoard();
catalogue.keep();
show();
