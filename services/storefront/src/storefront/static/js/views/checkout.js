/** The view of the checkout: customer, delivery, payment, and placing the order. */

import { ask, Problem } from "../api.js";
import { missing, showBasket } from "../basket.js";
import { catalogue, itemFor } from "../catalogue.js";
import { fill, h } from "../dom.js";
import { icon } from "../icons.js";
import { read, write } from "../storage.js";
import { basket, orders } from "../store.js";
import { together } from "../words.js";

const AGAIN_AFTER = [1500, 4000]; // milliseconds before a retry
const FIELDS = {
  name: { label: "Your name", autocomplete: "name", wrong: "Tell us your name: it is called out when the pizza is ready." },
  email: { label: "E-mail", type: "email", autocomplete: "email", inputmode: "email", wrong: "Give an e-mail address like ada@example.org: what becomes of the order is sent there." },
  street: { label: "Street and number", autocomplete: "street-address", wrong: "Tell the driver street and number." },
  postcode: { label: "Postcode", autocomplete: "postal-code", wrong: "Tell the driver the postcode.", size: "third" },
  city: { label: "City", autocomplete: "address-level2", wrong: "Tell the driver the city.", size: "rest" },
};
const ADDRESS = ["street", "postcode", "city"];
const MAIL = /^[^@\s,;<>]+@[^@\s,;<>]+$/; // as orders requires it

export function checkout(main, { go }) {
  const form = h("form", { id: "checkout", class: "form", novalidate: true, onsubmit: (event) => submit(event, form, go) });
  const known = read("customer", {});
  const address = h("div", { class: "fields", id: "address" }, ADDRESS.map((name) => field(name, known[name])));
  form.append(
    h("div", { class: "alert-place" }),
    h("fieldset", { class: "card" }, h("legend", { class: "unseen" }, "Who orders"), h("p", { class: "legend", "aria-hidden": "true" }, "Who orders"), h("div", { class: "fields" }, ["name", "email"].map((name) => field(name, known[name], "half"))), remember(known)),
    h(
      "fieldset",
      { class: "card" },
      h("legend", { class: "unseen" }, "How you get it"),
      h("p", { class: "legend", "aria-hidden": "true" }, "How you get it"),
      h(
        "div",
        { class: "choices" },
        choice("fulfilment", "pickup", "shop", "Collect", "From our shelf, as soon as it is boxed.", known.fulfilment !== "delivery"),
        choice("fulfilment", "delivery", "bike", "Deliver", "To your door, by bicycle.", known.fulfilment === "delivery"),
      ),
      address,
    ),
    h(
      "fieldset",
      { class: "card" },
      h("legend", { class: "unseen" }, "How you pay"),
      h("p", { class: "legend", "aria-hidden": "true" }, "How you pay"),
      h(
        "div",
        { class: "choices" },
        choice("payment", "tok_ok", "card", "Card ending in 4242", "A card that works.", true),
        choice("payment", "tok_declined", "refused", "Card ending in 0002", "A card that is declined: see what happens then.", false),
      ),
      h("p", { class: "soft small" }, "These cards are played. No money moves."),
    ),
  );
  const aside = h("aside", { class: "basket card", "aria-label": "Basket" });
  const wrap = h("div", { class: "checkout" }, form, aside);
  main.append(h("h1", { tabindex: -1 }, "Checkout"), wrap);

  const showAddress = () => {
    address.hidden = new FormData(form).get("fulfilment") !== "delivery";
  };
  form.addEventListener("change", showAddress);
  form.addEventListener("input", ({ target }) => complain(form, target.name, null));
  showAddress();
  return showBasket(aside, (lines) => foot(lines, form));
}

function foot(lines, form) {
  if (!lines.length) return h("a", { class: "button wide plain", href: "/", "data-key": "to-menu" }, "To the menu");
  const gone = missing();
  const busy = form.dataset.busy === "yes";
  return [
    gone.length > 0 && h("p", { class: "alert mild" }, icon("warning"), h("span", null, `${together(gone)} cannot be had now.`)),
    h("button", { type: "submit", form: "checkout", class: "button wide", id: "order", "data-key": "order", disabled: gone.length > 0 || busy }, busy ? [h("span", { class: "spin" }), "Sending…"] : "Order now, and pay"),
    h("p", { class: "soft small" }, "The final price is the one on our menu at the moment you order."),
  ];
}

function field(name, value, size) {
  const { label, wrong: _, size: own, ...more } = FIELDS[name];
  return h(
    "div",
    { class: `field ${size ?? own ?? ""}` },
    h("label", { for: name }, label),
    h("input", { id: name, name, type: "text", maxlength: 200, required: true, value: value ?? "", "aria-describedby": `${name}-wrong`, ...more }),
    h("p", { class: "wrong", id: `${name}-wrong`, hidden: true }),
  );
}

function choice(name, value, picture, title, hint, checked) {
  const id = `${name}-${value}`;
  return h("label", { class: "choice", for: id }, h("input", { type: "radio", name, value, id, checked, "aria-describedby": `${id}-hint` }), icon(picture), h("span", { class: "title" }, title), h("span", { class: "hint", id: `${id}-hint` }, hint));
}

const remember = (known) => h("label", { class: "tick" }, h("input", { type: "checkbox", name: "remember", checked: known.name !== undefined }), h("span", null, "Remember me on this device"));

/** Show the problem of a field; null removes it. */
function complain(form, name, message) {
  const input = form.elements.namedItem(name);
  const place = form.querySelector(`#${CSS.escape(name)}-wrong`);
  if (!input || !place) return;
  if (message) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
  place.textContent = message ?? "";
  place.hidden = !message;
}

function entered(form) {
  const given = Object.fromEntries(new FormData(form));
  return Object.fromEntries(Object.entries(given).map(([name, value]) => [name, value.trim()]));
}

/** The invalid fields. */
function unfit(given) {
  const asked = ["name", "email", ...(given.fulfilment === "delivery" ? ADDRESS : [])];
  return asked.filter((name) => (name === "email" ? !MAIL.test(given.email) : given[name] === ""));
}

function request(given) {
  const address = { street: given.street, postcode: given.postcode, city: given.city };
  return {
    customer: { name: given.name, email: given.email },
    fulfilment: given.fulfilment,
    ...(given.fulfilment === "delivery" ? { address } : {}),
    lines: basket.lines().map(({ sku, quantity }) => ({ sku, quantity })),
    paymentToken: given.payment,
  };
}

async function submit(event, form, go) {
  event.preventDefault();
  if (form.dataset.busy === "yes" || !basket.count() || missing().length) return;
  const given = entered(form);
  const wrong = unfit(given);
  Object.keys(FIELDS).forEach((name) => complain(form, name, wrong.includes(name) ? FIELDS[name].wrong : null));
  if (wrong.length) return form.elements.namedItem(wrong[0]).focus();
  write("customer", given.remember ? { name: given.name, email: given.email, street: given.street, postcode: given.postcode, city: given.city, fulfilment: given.fulfilment } : {});
  busy(form, true);
  try {
    const body = request(given);
    const answer = await place(body, (problem, wait) => alertIn(form, problem, wait));
    accepted(answer, body);
    go(`/orders/${answer.orderId}`);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    refused(form, error);
  } finally {
    busy(form, false);
  }
}

function busy(form, is) {
  form.dataset.busy = is ? "yes" : "no";
  const button = document.getElementById("order");
  if (!button) return;
  button.disabled = is;
  fill(button, is ? [h("span", { class: "spin" }), "Sending…"] : "Order now, and pay");
}

/**
 * Place an order. Until there is a response, also after the page was closed, the same order is sent with the same
 * idempotency key, so that it is placed once.
 * @throws {Problem} The request was rejected, or there was no response.
 */
async function place(body, onWait) {
  const content = JSON.stringify(body);
  const before = read("attempt", null);
  const attempt = before?.content === content ? before : { content, key: newKey() };
  write("attempt", attempt);
  for (const wait of [...AGAIN_AFTER, null]) {
    try {
      const answer = await ask("/api/orders", { method: "POST", body, headers: { "Idempotency-Key": attempt.key } });
      write("attempt", null);
      return answer;
    } catch (error) {
      if (!(error instanceof Problem) || !error.passing || wait === null) throw error;
      onWait(error, wait);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
  return undefined;
}

/** `crypto.randomUUID` exists only on HTTPS and localhost. */
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

function accepted({ orderId, totalCents }, { fulfilment, lines }) {
  const named = lines.map((line) => ({ ...line, name: itemFor(line.sku).name }));
  orders.remember({ orderId, totalCents, fulfilment, lines: named, placedAt: new Date().toISOString(), stage: "placed", finished: false });
  basket.clear();
}

/** The form's names of the API's fields. */
const NAMES = { "body.customer.name": "name", "body.customer.email": "email", "body.address.street": "street", "body.address.postcode": "postcode", "body.address.city": "city" };

function refused(form, problem) {
  const fields = problem.errors.map(({ field: path }) => NAMES[path]).filter(Boolean);
  fields.forEach((name) => complain(form, name, FIELDS[name].wrong));
  alertIn(form, problem, null);
  if (fields.length) form.elements.namedItem(fields[0]).focus();
  if (problem.status === 409 || problem.status === 422) catalogue.load(); // a pizza is sold out or was removed
}

function alertIn(form, problem, wait) {
  const place = form.querySelector(".alert-place");
  const title = wait !== null ? "Not answered yet: trying again…" : problem.passing ? "Your order has not been placed." : "This cannot be ordered as it is.";
  const comfort = problem.passing ? " Your basket is kept, and however often it is sent, it is ordered and paid once." : "";
  fill(place, h("div", { class: `alert${problem.passing ? " mild" : ""}`, role: "alert", "data-problem": problem.status }, icon("warning"), h("strong", null, title), h("span", null, sentence(problem.message) + comfort), problem.passing && wait === null && h("div", { class: "row" }, h("button", { type: "submit", class: "button" }, "Try again"))));
  if (wait === null) place.scrollIntoView({ block: "center", behavior: "smooth" });
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
