/** The view of the notices to owners, latest first, filtered by a text. */

import { polled } from "../api.js";
import { fill, h } from "../dom.js";
import { alert, eventsAt, head, nothing } from "../parts.js";
import { ago, many, moment } from "../words.js";

const EVERY = 3000; // milliseconds
const LATEST = 200;
const WEBHOOK = { none: "no webhook was configured", pending: "waiting to be sent", sent: "sent", failed: "not sent, no more attempts" };

export function notices(main, { keep, query }) {
  const [top, end] = head("Notices", "Notices to the owners of event types and subscriptions. Each is an event, and a message to the webhook if one is configured.");
  const text = h("input", { id: "find-notice", type: "search", class: "field", autocomplete: "off", placeholder: "Type, team or text", value: query.get("q") ?? "", oninput: typed });
  const found = h("p", { class: "soft small", role: "status" });
  const list = h("ul", { class: "letters" });
  const result = h("div", { class: "result" });
  main.append(top, h("div", { class: "filters" }, h("div", { class: "filter" }, h("label", { class: "unseen", for: "find-notice" }, "Find notices"), text)), result);
  let all = [];

  function typed() {
    keep({ q: text.value.trim() });
    draw();
  }

  function draw() {
    const wanted = text.value.trim().toLowerCase();
    const shown = all.filter((notice) => [notice.title, notice.text, notice.owners, notice.type].some((each) => each.toLowerCase().includes(wanted)));
    if (!all.length) return fill(result, nothing("check", "No notices", "No owner was notified of a deprecation, an incompatible change, a failed subscription or many dead letters."));
    fill(list, shown.map((notice, index) => h("li", null, card(notice, index))));
    found.textContent = `${shown.length} of the latest ${many(all.length, "notice")}, ${LATEST} at most.`;
    return list.isConnected || fill(result, list, found);
  }

  function changed(answer) {
    all = answer.notices;
    draw();
  }
  const stop = polled("/notices", { limit: LATEST }, EVERY, changed, (reason) => fill(result, alert("The notices cannot be read.", reason)));
  return () => [stop, end].forEach((each) => each());
}

function card({ type, title, text, owners, times, firstAt, sentAt, webhook, webhookError }, index) {
  const id = `notice-${index}`;
  const time = (at) => h("time", { datetime: at, title: moment(at) }, ago(at));
  return h(
    "article",
    { class: `record card${webhookError ? " attention" : ""}`, "aria-labelledby": id },
    h("div", { class: "letter-main" },
      h("h2", { id }, title),
      h("p", { class: "lines" }, text),
      h("p", { class: "soft small" }, owners ? `To ${owners}` : "No owner is known"),
    ),
    h("dl", { class: "facts" },
      h("dt", null, "Event"),
      h("dd", null, h("a", { href: eventsAt({ type }), "data-key": `${type} ${title}` }, type)),
      h("dt", null, "Notified"),
      h("dd", null, many(times, "time"), h("span", null, times > 1 && ["first ", time(firstAt), ", last "], time(sentAt))),
      h("dt", null, "Webhook"),
      h("dd", null, WEBHOOK[webhook], webhookError && h("span", { class: "problem" }, webhookError)),
    ),
  );
}
