/** The notices below the header: unavailable services, and what still works. */

import { ask, health, Problem } from "./api.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";

const EVERY = 4000; // milliseconds between two requests
const BACK_FOR = 4000;
/** Paths of things that do not exist: a 404 shows that the service is available. */
const PROBES = { page: "/api/shop", menu: "/api/menu/ping", orders: "/api/orders/ping", tracking: "/api/track/ping" };

const knock = (service) =>
  ask(PROBES[service]).catch((error) => {
    if (!(error instanceof Problem)) throw error; // `ask` records who is unavailable
  });

export function showNotices(element) {
  let were = 0;
  const draw = () => {
    const page = health.away.filter(([service]) => service === "page");
    const shown = page.length ? page : health.away; // without the storefront, the state of the others is unknown
    fill(element, shown.map(([service, message]) => h("p", { class: "notice", "data-service": service }, icon(service === "page" ? "offline" : "warning"), message)));
    if (were && !shown.length) {
      const back = h("p", { class: "notice back" }, icon("check"), "Everything is back.");
      fill(element, back);
      setTimeout(() => back.remove(), BACK_FOR);
    }
    were = shown.length;
  };
  const look = () => {
    if (!document.hidden) health.away.forEach(([service]) => knock(service));
  };
  health.addEventListener("change", draw);
  setInterval(look, EVERY);
  addEventListener("online", () => knock("page"));
  addEventListener("offline", () => knock("page"));
}
