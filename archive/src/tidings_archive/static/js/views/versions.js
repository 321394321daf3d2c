/** The view of deprecated versions: their readers, removal dates and rates. */

import { fill, h } from "../dom.js";
import { eventsAt, head, nothing, owner, service } from "../parts.js";
import { follow, state } from "../state.js";
import { date, daysUntil, many, number } from "../words.js";

export function versions(main) {
  const [top, end] = head("Deprecated versions", "Deprecated versions, the subscriptions that still read them, and their replacements.");
  const result = h("div", { class: "result" });
  main.append(top, result);
  const draw = () => {
    const { deprecated } = state.map;
    if (state.unmapped) return fill(result, nothing("warning", "No system map", state.unmapped));
    if (!deprecated.length) return fill(result, nothing("check", "No version is deprecated", "Deprecated versions are listed here, with the subscriptions that still read them."));
    const sorted = [...deprecated].sort((one, other) => other.readers.length - one.readers.length || String(one.removal).localeCompare(String(other.removal)));
    return fill(result, h("ul", { class: "letters" }, sorted.map((each) => h("li", null, card(each)))));
  };
  const stop = follow(["map", "live"], draw);
  return () => {
    stop();
    end();
  };
}

function card({ type, version, removal, alternative, readers }) {
  const kind = `${type}.${version}`;
  const days = removal && daysUntil(removal);
  const id = `old-${kind}`;
  return h(
    "article",
    { class: `record card${readers.length ? " attention" : ""}`, "aria-labelledby": id },
    h("div", { class: "letter-main" },
      h("h2", { id }, type, h("span", { class: "version deprecated" }, version), alternative && h("span", { class: "instead" }, "read ", h("span", { class: "version active" }, alternative), " instead")),
      h("p", { class: readers.length ? "verdict used" : "verdict" }, readers.length ? `${many(readers.length, "subscription")} still ${readers.length === 1 ? "reads" : "read"} it` : "No subscription reads it by name"),
      readers.length > 0 && h("ul", { class: "plain" }, readers.map(({ app, subscription }) => h("li", null, service(app), h("span", null, subscription), owner(state.map.subscriptions.find((each) => each.name === subscription && each.app === app) ?? {})))),
    ),
    h("dl", { class: "facts" },
      h("dt", null, "Removed"),
      h("dd", null, removal ? [h("time", { datetime: removal }, date(removal)), h("span", { class: days < 0 ? "tag mild" : "tag" }, days < 0 ? `${many(-days, "day")} ago` : `in ${many(days, "day")}`)] : "no date is set"),
      h("dt", null, "Still published"),
      h("dd", null, `${number(state.live.events[kind] ?? 0)} in the last minute, `, h("a", { href: eventsAt({ type: kind }), "data-key": kind }, `${number(state.totals[kind] ?? 0)} archived`)),
    ),
  );
}
