/** The basket and the orders, as this browser stores them. */

import { read, write } from "./storage.js";

const MOST_ORDERS = 50;
export const MOST_PIZZAS = 100;

/** The basket: the quantity of each pizza, in the order of adding. */
export const basket = {
  lines: () => read("basket", []),
  count: () => basket.lines().reduce((sum, line) => sum + line.quantity, 0),
  quantity: (sku) => basket.lines().find((line) => line.sku === sku)?.quantity ?? 0,

  /** Set the quantity of a pizza, within the limit of an order. Returns the new quantity. */
  set(sku, wanted) {
    const lines = basket.lines();
    const known = lines.find((line) => line.sku === sku);
    const room = MOST_PIZZAS - basket.count() + (known?.quantity ?? 0);
    const quantity = Math.max(0, Math.min(wanted, room));
    if (known) known.quantity = quantity;
    else lines.push({ sku, quantity });
    write("basket", lines.filter((line) => line.quantity > 0));
    return quantity;
  },
  clear: () => write("basket", []),
};

/** The orders of this browser, latest first. */
export const orders = {
  all: () => read("orders", []),
  find: (orderId) => orders.all().find((order) => order.orderId === orderId),
  remember(order) {
    const others = orders.all().filter((known) => known.orderId !== order.orderId);
    write("orders", [order, ...others].slice(0, MOST_ORDERS));
  },

  /** Update the state of an order of this browser. */
  update(orderId, stage, finished) {
    const known = orders.find(orderId);
    if (!known || (known.stage === stage && known.finished === finished)) return;
    write("orders", orders.all().map((order) => (order.orderId === orderId ? { ...order, stage, finished } : order)));
  },
  forget: () => write("orders", []),
};
