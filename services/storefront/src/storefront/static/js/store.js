/** What this browser remembers: basket, orders, who orders, the menu as last seen. Every tab sees the same. */

const PREFIX = "pizza.";
const MOST_ORDERS = 50;
export const MOST_PIZZAS = 100;
const listeners = new Map();
const memory = new Map(); // where the browser lets us keep nothing, it lasts as long as the tab

export function read(name, otherwise) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? memory.get(name) ?? otherwise : JSON.parse(text);
  } catch {
    return memory.get(name) ?? otherwise;
  }
}

export function write(name, value) {
  memory.set(name, value);
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Full or forbidden: the copy in memory has to do.
  }
  tell(name);
}

/** Call a function at each change of a value, by this tab or another; answers how to stop that. */
export function onChange(name, listener) {
  const own = listeners.get(name) ?? new Set();
  listeners.set(name, own.add(listener));
  return () => own.delete(listener);
}

const tell = (name) => [...(listeners.get(name) ?? [])].forEach((listener) => listener());

addEventListener("storage", ({ key }) => {
  const names = key === null ? [...listeners.keys()] : [key.slice(PREFIX.length)];
  for (const name of names) {
    memory.delete(name);
    tell(name);
  }
});

/** The basket: how many of each pizza, in the order in which they were put in. */
export const basket = {
  lines: () => read("basket", []),
  count: () => basket.lines().reduce((sum, line) => sum + line.quantity, 0),
  quantity: (sku) => basket.lines().find((line) => line.sku === sku)?.quantity ?? 0,

  /** Set how many of a pizza there are; no more than an order may have in all. Answers how many there are now. */
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

/** The orders of this browser, the latest first. */
export const orders = {
  all: () => read("orders", []),
  find: (orderId) => orders.all().find((order) => order.orderId === orderId),
  remember(order) {
    const others = orders.all().filter((known) => known.orderId !== order.orderId);
    write("orders", [order, ...others].slice(0, MOST_ORDERS));
  },

  /** Note where an order is now; one that was ordered elsewhere is not taken into the list. */
  update(orderId, stage, finished) {
    const known = orders.find(orderId);
    if (!known || (known.stage === stage && known.finished === finished)) return;
    write("orders", orders.all().map((order) => (order.orderId === orderId ? { ...order, stage, finished } : order)));
  },
  forget: () => write("orders", []),
};
