/** The shop: the view of each path, the basket's count and notices. */

import { ask, health, Problem } from "./api.js";
import { catalogue } from "./catalogue.js";
import { fill, h } from "./dom.js";
import { navigate, offerThemes } from "./frame.js";
import { icon } from "./icons.js";
import { showNotices } from "./notices.js";
import { onChange } from "./storage.js";
import { basket } from "./store.js";
import { board } from "./views/board.js";
import { checkout } from "./views/checkout.js";
import { history as past } from "./views/history.js";
import { menu } from "./views/menu.js";
import { nothing } from "./views/nothing.js";
import { order } from "./views/order.js";

const VIEWS = [
  { path: /^\/$/, nav: "menu", title: "Menu", show: menu },
  { path: /^\/checkout$/, nav: null, title: "Checkout", show: checkout },
  { path: /^\/orders$/, nav: "orders", title: "My orders", show: past },
  { path: /^\/orders\/([A-Za-z0-9-]{1,64})$/, nav: "orders", title: "Your order", show: order },
  { path: /^\/board$/, nav: "board", title: "Live board", show: board },
];
const NOTHING = { nav: null, title: "Nothing here", show: nothing };

function find(path) {
  for (const view of VIEWS) {
    const match = view.path.exec(path);
    if (match) return [view, { id: match[1] }];
  }
  return [NOTHING, {}];
}

function showCount() {
  const link = document.getElementById("basket-link");
  const count = basket.count();
  link.classList.toggle("empty", count === 0);
  link.setAttribute("aria-label", `Basket, ${count === 0 ? "empty" : count === 1 ? "1 pizza" : `${count} pizzas`}`);
  fill(link, icon("bag"), h("span", { class: "number" }, count));
}

/** Show the link to the board if there is one; ask again when the storefront responds again. */
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
showCount();
offerThemes();
showNotices(document.getElementById("notices"));
offerBoard();
catalogue.keep();
navigate("Plant-Based Pizza", find);
