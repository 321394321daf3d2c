/** Navigation between views without reloading, and the choice of colours. */

import { fill } from "./dom.js";
import { icons } from "./drawing.js";
import { onChange, read, write } from "./storage.js";

const icon = icons({});
const THEMES = { system: "as your system has them", light: "light", dark: "dark" };

/**
 * Show the view of the current path, and follow links between views.
 * @param {string} site the end of every title
 * @param {(path: string) => [{nav: string|null, title: string, show: Function}, object]} find the view of a path, and
 *   what its `show` gets besides `go`; `show` fills `main` and may return a function that is called on leaving the view
 * @param {(path: string) => boolean} [has] whether this page serves the path; links to others load their page
 */
export function navigate(site, find, has = () => true) {
  const main = document.getElementById("view");
  let leave = null;

  function show() {
    leave?.();
    const [view, given] = find(location.pathname);
    for (const link of document.querySelectorAll("[data-nav]")) {
      if (link.dataset.nav === view.nav) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${view.title} · ${site}`;
    main.replaceChildren();
    leave = view.show(main, { go, ...given });
  }

  function go(path) {
    history.pushState(null, "", path);
    show();
    scrollTo(0, 0);
    (main.querySelector("h1") ?? main).focus({ preventScroll: true }); // so that screen readers read the new view
  }

  addEventListener("popstate", show);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    const elsewhere = event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;
    if (!link || elsewhere || link.target || link.origin !== location.origin || link.getAttribute("href").startsWith("#")) return;
    if (!has(link.pathname)) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
  show();
}

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

/** Let the button in the header change the colours, in all tabs. */
export function offerThemes() {
  onChange("theme", showTheme);
  showTheme();
}
