/** Texts, and formats of money and times. */

const MONEY = new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", hour: "2-digit", minute: "2-digit" });

export const money = (cents) => MONEY.format(cents / 100);
export const clock = (time) => CLOCK.format(new Date(time));
export const day = (time) => DAY.format(new Date(time));
export const words = (name) => name.replaceAll("-", " ");
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const pizzas = (count) => (count === 1 ? "1 pizza" : `${count} pizzas`);
export const shortId = (orderId) => `#${orderId.slice(-6).toUpperCase()}`;
export const together = (list) => new Intl.ListFormat("en-GB").format(list);

/** Format the time since a moment; the text does not change every second. */
export function ago(time, now = Date.now()) {
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
  if (seconds < 10) return "just now";
  if (seconds < 60) return "less than a minute ago";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return day(time);
}

/** The reason of a cancellation, and its consequence for the customer. */
const REASONS = {
  paymentRefused: ["Your card was declined.", "Nothing was charged. Try another card, the pizzas are still there."],
  paymentTimeout: ["Your bank did not answer in time.", "Whatever it may have reserved is released. Please order again."],
  customerCancelled: ["You cancelled this order.", "Whatever was reserved or charged goes back to your card."],
  kitchenClosed: ["The kitchen is closed: nobody is in to bake.", "You get your money back. See you when the oven is hot again."],
  itemSoldOut: ["Something you ordered has just sold out.", "You get your money back. Maybe another pizza?"],
  noDriverAvailable: ["No driver was free to bring it to you.", "You get your money back. You could collect it next time."],
  notCollected: ["Nobody came to collect it.", "The pizza waited on its shelf until it was past its best."],
  deliveryFailed: ["The driver could not hand it over.", "You get your money back. Please check the address before you order again."],
  serviceUnavailable: ["Part of our shop was down.", "Nothing was charged. Please order again."],
};

/** The steps of an order for customers; a step covers several of tracking's stages. */
const COMMON = [
  { name: "Ordered", stages: ["placed"], types: ["orders.orderPlaced"] },
  { name: "Paid", stages: ["paid", "confirmed"], types: ["payments.paymentAuthorised", "orders.orderConfirmed"] },
  { name: "Being made", stages: ["preparing"], types: ["kitchen.preparationStarted"] },
  { name: "In the oven", stages: ["baking", "checked"], types: ["kitchen.pizzaPrepared"] },
];
const WAYS = {
  pickup: [
    ...COMMON,
    { name: "Boxed", stages: ["boxed"], types: ["kitchen.pizzaBoxed"] },
    { name: "Ready for you", stages: ["shelved"], types: ["pickup.orderShelved"] },
    { name: "Collected", stages: ["collected", "completed"], types: ["pickup.orderCollected", "orders.orderCompleted"] },
  ],
  delivery: [
    ...COMMON,
    { name: "Boxed", stages: ["boxed", "driverAssigned"], types: ["kitchen.pizzaBoxed"] },
    { name: "On its way", stages: ["outForDelivery"], types: ["delivery.orderCollected"] },
    { name: "Delivered", stages: ["delivered", "completed"], types: ["delivery.orderDelivered", "orders.orderCompleted"] },
  ],
};

/**
 * The steps of an order with their times, each `done`, `now`, `ahead` or, after a cancellation, `missed`. Steps before
 * the latest one are done, even if their events have not arrived yet.
 */
export function steps({ fulfilment, stage, timeline }) {
  const way = WAYS[fulfilment] ?? WAYS.pickup;
  const times = way.map((step) => timeline.find((entry) => step.types.includes(entry.type))?.time ?? null);
  const told = times.findLastIndex((time) => time !== null);
  const cancelled = stage === "cancelled";
  const at = cancelled ? Math.max(told, 0) : Math.max(way.findIndex((step) => step.stages.includes(stage)), told, 0);
  const finished = at === way.length - 1;
  return way.map(({ name }, index) => {
    const state = index < at || (index === at && (finished || cancelled)) ? "done" : index === at ? "now" : "ahead";
    return { name, time: times[index], state: cancelled && state === "ahead" ? "missed" : state };
  });
}

const STAGES = {
  placed: ["We have your order.", "Your card is being asked."],
  confirmed: ["Your order is confirmed.", "The kitchen starts on it next."],
  preparing: ["Your pizza is being made.", "It is baked, checked and boxed next."],
  boxed: ["Your pizza is in its box.", "It leaves the kitchen next."],
  outForDelivery: ["Your pizza is on its way to you.", "Keep an ear on the door."],
  completed: ["All done. Enjoy your pizza!", null],
};

/** The state of an order from orders, in tracking's form, for use while tracking is unavailable. */
export function fromOrders(order) {
  const { status, cancellation } = order;
  const moments = [["orders.orderPlaced", order.placedAt, "Order placed"], ["orders.orderConfirmed", order.confirmedAt, "Order confirmed"]];
  moments.push(["orders.orderCompleted", order.completedAt, "Order completed"], ["orders.orderCancelled", cancellation?.at, "Order cancelled"]);
  const [message, next] = cancellation ? REASONS[cancellation.reason] ?? ["Your order was cancelled.", null] : STAGES[status];
  return {
    ...order,
    stage: status,
    finished: status === "completed" || status === "cancelled",
    reason: cancellation?.reason ?? null,
    message,
    next,
    timeline: moments.filter(([, time]) => time).map(([type, time, told]) => ({ id: type, type, time, words: told, source: "orders" })),
    updatedAt: cancellation?.at ?? order.completedAt ?? order.confirmedAt ?? order.placedAt,
  };
}

/**
 * Merge the states of an order from tracking and from orders: the later stage, with all known steps.
 */
export function merge(tracked, asked) {
  if (!tracked || !asked) return tracked ?? asked;
  const rank = (told) => (told.finished ? 99 : steps(told).findLastIndex(({ state }) => state !== "ahead"));
  const [ahead, behind] = rank(asked) > rank(tracked) ? [asked, tracked] : [tracked, asked];
  const types = new Set(tracked.timeline.map(({ type }) => type));
  return {
    ...behind,
    ...ahead,
    fulfilment: ahead.fulfilment ?? behind.fulfilment,
    totalCents: ahead.totalCents ?? behind.totalCents,
    lines: ahead.lines.length ? ahead.lines : behind.lines,
    timeline: [...tracked.timeline, ...asked.timeline.filter(({ type }) => !types.has(type))],
  };
}

/** The column of an order on the board. */
export const COLUMNS = [
  { name: "New", stages: ["placed", "paid", "confirmed"] },
  { name: "In the kitchen", stages: ["preparing", "baking", "checked"] },
  { name: "Ready", stages: ["boxed", "shelved", "driverAssigned"] },
  { name: "On the road", stages: ["outForDelivery"] },
  { name: "With the customer", stages: ["collected", "delivered", "completed"] },
  { name: "Cancelled", stages: ["cancelled"] },
];

const NAMES = {
  placed: "placed", paid: "paid", confirmed: "confirmed", preparing: "being made", baking: "in the oven", checked: "quality checked",
  boxed: "boxed", shelved: "on the shelf", driverAssigned: "waiting for its driver", outForDelivery: "on its way",
  collected: "collected", delivered: "delivered", completed: "completed", cancelled: "cancelled",
};
export const stageName = (stage) => NAMES[stage] ?? stage;
