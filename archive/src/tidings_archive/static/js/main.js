/** The page: which view an address shows, and what stands around every view. */

import { connection } from "./api.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { read, write } from "./memory.js";
import { follow, state } from "./state.js";
import { stillRead } from "./system.js";
import { deadLetters } from "./views/deadletters.js";
import { events } from "./views/events.js";
import { map } from "./views/map.js";
import { replays } from "./views/replays.js";
import { versions } from "./views/versions.js";

/** A view fills `main` and answers how to leave it. */
const VIEWS = {
  "/console": { nav: "map", title: "Live map", show: map },
  "/console/events": { nav: "events", title: "Events", show: events },
  "/console/dead-letters": { nav: "dead-letters", title: "Dead letters", show: deadLetters },
  "/console/replays": { nav: "replays", title: "Replays", show: replays },
  "/console/versions": { nav: "versions", title: "Deprecated versions", show: versions },
};
const main = document.getElementById("view");
let leave = null;

function show() {
  leave?.();
  const view = VIEWS[location.pathname.replace(/\/$/, "")] ?? VIEWS["/console"];
  for (const link of document.querySelectorAll("[data-nav]")) {
    if (link.dataset.nav === view.nav) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view.title} · Pizza Console`;
  main.replaceChildren();
  leave = view.show(main, { go, query: new URLSearchParams(location.search) });
}

/** Go to another view, as if its address had been opened. */
function go(path) {
  history.pushState(null, "", path);
  show();
  scrollTo(0, 0);
  main.querySelector("h1").focus({ preventScroll: true }); // so that the new view is read out
}

addEventListener("popstate", show);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  const elsewhere = event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;
  if (!link || elsewhere || link.target || link.origin !== location.origin || link.getAttribute("href").startsWith("#")) return;
  if (!(link.pathname in VIEWS)) return;
  event.preventDefault();
  go(link.pathname + link.search);
});

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
  button.onclick = () => {
    write("theme", next);
    showTheme();
  };
  fill(button, icon({ system: "system", light: "sun", dark: "moon" }[chosen]));
}

function showNotice() {
  const told = connection.away && h("p", { class: "notice" }, icon("offline"), connection.away);
  fill(document.getElementById("notices"), told);
}

function badge(id, count, meaning) {
  const element = document.getElementById(id);
  element.hidden = count === 0;
  fill(element, count, h("span", { class: "unseen" }, ` ${meaning}`));
}

showTheme();
connection.addEventListener("change", showNotice);
follow(["live"], () => badge("dead", state.dead, "open"));
follow(["map"], () => badge("old", stillRead(state.map).length, "deprecated and still read"));
state.start();
show();
