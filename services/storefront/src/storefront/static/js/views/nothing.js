/** The view of an unknown address. */

import { h } from "../dom.js";
import { pizza } from "../pizza.js";

export function nothing(main) {
  const empty = { sku: "nothing", name: "An empty pizza", ingredients: ["wheat-dough"], imageHint: "" };
  main.append(
    h(
      "section",
      { class: "lonely" },
      pizza(empty, { label: false }),
      h("h1", { tabindex: -1 }, "There is nothing on this one"),
      h("p", null, "The address leads nowhere. The menu does."),
      h("a", { class: "button", href: "/" }, "To the menu"),
    ),
  );
}
