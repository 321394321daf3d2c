/** The console: the view of each path, notices and badges. */

import { connection, spelled } from "./api.js";
import { fill, h } from "./dom.js";
import { navigate, offerThemes } from "./frame.js";
import { icon } from "./icons.js";
import { follow, state } from "./state.js";
import { stillRead } from "./system.js";
import { audit } from "./views/audit.js";
import { deadLetters } from "./views/deadletters.js";
import { events } from "./views/events.js";
import { map } from "./views/map.js";
import { notices } from "./views/notices.js";
import { replays } from "./views/replays.js";
import { subscriptions } from "./views/subscriptions.js";
import { versions } from "./views/versions.js";

const VIEWS = {
  "/console": { nav: "map", title: "Live map", show: map },
  "/console/subscriptions": { nav: "subscriptions", title: "Subscriptions", show: subscriptions },
  "/console/events": { nav: "events", title: "Events", show: events },
  "/console/dead-letters": { nav: "dead-letters", title: "Dead letters", show: deadLetters },
  "/console/replays": { nav: "replays", title: "Replays", show: replays },
  "/console/versions": { nav: "versions", title: "Deprecated versions", show: versions },
  "/console/notices": { nav: "notices", title: "Notices", show: notices },
  "/console/audit": { nav: "audit", title: "Audit", show: audit },
};

/** Keep the state of a view in its address, so that it can be shared. */
const keep = (query) => history.replaceState(null, "", location.pathname + spelled(query));

function showNotice() {
  const told = connection.away && h("p", { class: "notice" }, icon("offline"), connection.away);
  fill(document.getElementById("notices"), told);
}

function badge(id, count, meaning) {
  const element = document.getElementById(id);
  element.hidden = count === 0;
  fill(element, count, h("span", { class: "unseen" }, ` ${meaning}`));
}

offerThemes();
connection.addEventListener("change", showNotice);
follow(["live"], () => badge("dead", state.dead, "open"));
follow(["map"], () => badge("old", stillRead(state.map).length, "deprecated and still read"));
state.start();
navigate(
  "Tidings Console",
  (path) => [VIEWS[path.replace(/\/$/, "")] ?? VIEWS["/console"], { keep, query: new URLSearchParams(location.search) }],
  (path) => path in VIEWS,
);
