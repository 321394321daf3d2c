/** The view of the live map: services, the events between them, and their rates. */

import { fill, h, svg } from "../dom.js";
import { BOX, laidOut } from "../layout.js";
import { deadLettersAt, eventsAt, head, hue, nothing, service } from "../parts.js";
import { follow, state } from "../state.js";
import { carried, everyone, graph, of, ofType, readersOf, stillRead, sum } from "../system.js";
import { typesTable } from "./types.js";
import { bare, many, number, short } from "../words.js";

const NARROW = matchMedia("(max-width: 760px)");

export function map(main, { keep, query }) {
  let chosen = query.get("chosen"); // the id of a service or a line
  let everything = query.has("everything");
  let drawn = { services: [], lines: [] };
  let marks = new Map(); // elements that live data changes, by id

  const [top, end] = head("Live map", "The services, the events between them, and how many there were in the last minute.");
  const figures = h("dl", { class: "figures" });
  const canvas = h("div", { class: "canvas", tabindex: 0, role: "region", "aria-label": "Map of services; it may scroll sideways" });
  const panel = h("aside", { class: "panel", "aria-label": "Details of the selection", "aria-live": "polite" });
  const all = h("input", { type: "checkbox", id: "everything", checked: everything, onchange: () => { everything = all.checked; kept(); draw(); } });
  const legend = h(
    "div",
    { class: "legend" },
    h("span", { class: "key fact" }, "events"),
    h("span", { class: "key command" }, "commands only"),
    h("span", { class: "key flow" }, "active"),
    h("label", { class: "switch", for: "everything" }, all, "Show consumers of all events"),
  );
  const board = h("div", { class: "map card" }, h("div", { class: "map-main" }, legend, canvas), panel);
  const kept = () => keep({ chosen, everything: everything ? "yes" : "", types: types.wanted() });
  const types = typesTable(query.get("types") ?? "", kept);
  main.append(top, figures, board, types.element);

  const choose = (id) => {
    chosen = chosen === id ? null : id;
    kept();
    mark();
    show();
    if (marks.get(chosen) && canvas.scrollWidth > canvas.clientWidth) marks.get(chosen).element.scrollIntoView({ inline: "center", block: "nearest" });
  };

  function draw() {
    drawn = graph(state.map, everything);
    if (drawn.services.length === 0) {
      fill(canvas, state.unmapped ? nothing("warning", "No system map", state.unmapped) : h("div", { class: "waiting tall" }));
      panel.hidden = true;
      return;
    }
    panel.hidden = false;
    const placed = laidOut(drawn, NARROW.matches);
    marks = new Map();
    fill(canvas, picture(drawn, placed, marks, choose));
    canvas.scrollLeft = (canvas.scrollWidth - canvas.clientWidth) / 2;
    mark();
    update();
  }

  /** Highlight the selection and its neighbours. */
  function mark() {
    const near = new Set([chosen, ...drawn.lines.filter(({ id, from, to }) => [id, from, to].includes(chosen)).flatMap(({ id, from, to }) => [id, from, to])]);
    for (const [id, { element }] of marks) {
      element.classList.toggle("chosen", id === chosen);
      element.classList.toggle("faded", chosen !== null && !near.has(id));
      if (element.hasAttribute("aria-pressed")) element.setAttribute("aria-pressed", String(id === chosen));
    }
  }

  /** Show live data. */
  function update() {
    const { events, deadLetters } = state.live;
    for (const line of drawn.lines) {
      const count = carried(state.map, line, events);
      const { element, label } = marks.get(line.id);
      element.setAttribute("data-flow", count === 0 ? "none" : count < 10 ? "slow" : count < 120 ? "steady" : "fast");
      label.textContent = count ? short(count) : String(line.types.length);
      label.parentNode.classList.toggle("quiet", count === 0);
    }
    for (const name of drawn.services) {
      const { element, told, dead } = marks.get(name);
      const out = outOf(name, events);
      const failed = deadLetters[name] ?? 0;
      told.textContent = out ? `${short(out)} a minute` : "quiet";
      dead.setAttribute("class", failed ? "dead" : "dead none");
      dead.lastChild.textContent = short(failed);
      element.setAttribute("aria-label", `${name}: ${many(out, "event")} published in the last minute, ${many(failed, "open dead letter")}`);
    }
    fill(figures, figuresNow());
    types.update();
  }

  function show() {
    const line = drawn.lines.find(({ id }) => id === chosen);
    fill(panel, line ? aboutLine(line) : chosen ? aboutService(chosen) : aboutNothing(choose));
  }

  const onWidth = () => draw();
  NARROW.addEventListener("change", onWidth);
  const onEscape = (event) => event.key === "Escape" && chosen && choose(chosen);
  addEventListener("keydown", onEscape);
  const stops = [
    end,
    follow(["map"], () => {
      draw();
      show();
      types.update();
    }),
    follow(["live"], () => {
      if (drawn.services.length) update();
      else fill(figures, figuresNow());
      if (!panel.contains(document.activeElement)) show();
    }),
  ];
  return () => {
    NARROW.removeEventListener("change", onWidth);
    removeEventListener("keydown", onEscape);
    stops.forEach((stop) => stop());
  };
}

const outOf = (name, counts) => of(state.map, name).publishes.reduce((total, { type }) => total + ofType(counts, type), 0);

function figuresNow() {
  const { map: system, live, totals } = state;
  const figure = (name, value, ...more) => h("div", null, h("dt", null, name), h("dd", null, value, more));
  return [
    figure("events in the last minute", number(sum(live.events)), spark(state.looks)),
    figure("events archived", short(sum(totals))),
    figure("event types", system.types.length),
    figure("open dead letters", state.dead ? h("a", { href: deadLettersAt({}) }, number(state.dead)) : 0),
    figure("deprecated and still read", stillRead(system).length ? h("a", { href: "/console/versions" }, stillRead(system).length) : 0),
  ];
}

/** The latest totals as a small curve. */
function spark(looks) {
  if (looks.length < 2) return null;
  const most = Math.max(...looks, 1);
  const points = looks.map((value, index) => `${(index / (looks.length - 1)) * 96},${24 - (value / most) * 21}`);
  return svg("svg", { class: "spark", viewBox: "0 0 96 26", "aria-hidden": "true" }, svg("polyline", { points: points.join(" ") }));
}

function picture({ services, lines }, { width, height, boxes, ways }, marks, choose) {
  const arrow = (id) => svg("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" }, svg("path", { d: "M0 0.500 8 4 0 7.500Z" }));
  return svg(
    "svg",
    { class: "graph", viewBox: `0 0 ${Math.ceil(width)} ${Math.ceil(height)}`, width: Math.ceil(width), height: Math.ceil(height), role: "group", "aria-label": `${many(services.length, "service")} and ${many(lines.length, "line")} between them` },
    svg("defs", null, arrow("arrow"), arrow("arrow-chosen")),
    lines.map((line) => lineOf(line, ways.get(line.id), marks, choose)),
    services.map((name) => boxOf(name, boxes.get(name), marks, choose)),
  );
}

function lineOf(line, { d, x, y }, marks, choose) {
  const label = svg("text", { x, y: y + 4 }, line.types.length);
  const element = svg(
    "g",
    { class: `line${line.types.every(({ intent }) => intent === "Command") ? " command" : ""}`, "data-line": line.id, onclick: () => choose(line.id) },
    svg("title", null, `${line.from} to ${line.to}: ${line.types.map(({ type }) => type).join(", ")}`),
    svg("path", { class: "hit", d }),
    svg("path", { class: "way", d, "marker-end": "url(#arrow)" }),
    svg("path", { class: "flow", d }),
    svg("g", { class: "pill" }, svg("rect", { x: x - 17, y: y - 10, width: 34, height: 20, rx: 10 }), label),
  );
  marks.set(line.id, { element, label });
  return element;
}

function boxOf(name, { x, y }, marks, choose) {
  const [left, top] = [x - BOX.width / 2, y - BOX.height / 2];
  const told = svg("text", { class: "told", x: left + 18, y: top + 47 }, "quiet");
  const dead = svg("g", { class: "dead none" }, svg("rect", { x: left + BOX.width - 46, y: top + 12, width: 34, height: 20, rx: 10 }), svg("text", { x: left + BOX.width - 29, y: top + 26 }, "0"));
  const onkeydown = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose(name);
  };
  const element = svg(
    "g",
    { class: "box", "data-service": name, "data-hue": hue(name), tabindex: 0, role: "button", "aria-pressed": "false", onclick: () => choose(name), onkeydown },
    svg("rect", { class: "frame", x: left, y: top, width: BOX.width, height: BOX.height, rx: 14 }),
    svg("rect", { class: "stripe", x: left + 7, y: top + 15, width: 4, height: BOX.height - 30, rx: 2 }),
    svg("text", { class: "name", x: left + 18, y: top + 28 }, name),
    told,
    dead,
  );
  marks.set(name, { element, told, dead });
  return element;
}

function aboutNothing(choose) {
  const failing = Object.entries(state.live.deadLetters).filter(([, count]) => count);
  const busiest = state.map.types
    .map(({ type }) => [type, ofType(state.live.events, type)])
    .filter(([, count]) => count)
    .sort(([, one], [, other]) => other - one)
    .slice(0, 6);
  return [
    h("h2", null, "Current activity"),
    h("p", { class: "soft small" }, "Select a service or a line to see its events."),
    failing.length > 0 && [
      h("h3", null, "Open dead letters by service"),
      h("ul", { class: "plain" }, failing.map(([app, count]) => h("li", null, service(app), h("a", { class: "number", href: deadLettersAt({ app }) }, many(count, "dead letter"))))),
    ],
    h("h3", null, "Busiest in the last minute"),
    busiest.length ? h("ul", { class: "plain" }, busiest.map(([type, count]) => typeLine(type, count))) : h("p", { class: "soft" }, "No events."),
    h("h3", null, "Services"),
    h("div", { class: "chips" }, everyone(state.map).map((name) => h("button", { type: "button", class: "chip", "data-key": `chip ${name}`, onclick: () => choose(name) }, service(name)))),
  ];
}

const typeLine = (type, count, ...more) =>
  h("li", null, h("a", { href: eventsAt({ type }), title: type }, bare(type)), more, h("span", { class: `number count${count ? "" : " none"}` }, short(count)));

function aboutLine(line) {
  return [
    h("h2", null, service(line.from), " to ", service(line.to)),
    h("p", { class: "soft small" }, `${many(line.types.length, "type")}; events in the last minute`),
    h("ul", { class: "plain" }, line.types.map(({ type, intent }) => typeLine(type, ofType(state.live.events, type), intent === "Command" && h("span", { class: "tag" }, "command")))),
  ];
}

function aboutService(name) {
  const { publishes, reads } = of(state.map, name);
  const failed = state.live.deadLetters[name] ?? 0;
  const waiting = state.live.waiting?.[name] ?? 0;
  return [
    h("h2", null, service(name)),
    waiting > 0 && h("p", null, `${many(waiting, "event")} waiting at the broker`),
    failed > 0 && h("p", null, h("a", { class: "button warn", href: deadLettersAt({ app: name }) }, many(failed, "open dead letter"))),
    h("h3", null, `Publishes ${many(publishes.length, "type")}`),
    h("ul", { class: "plain" }, publishes.map(({ type, intent }) => typeLine(type, ofType(state.live.events, type), intent === "Command" && h("span", { class: "tag" }, "command"), readersOf(state.map, type).every(({ pattern }) => pattern) && h("span", { class: "tag mild" }, "unread")))),
    h("h3", null, `Reads, in ${many(reads.length, "subscription")}`),
    h("ul", { class: "plain" }, reads.flatMap((each) => (each.pattern ? patternLine(each) : Object.entries(each.reads).map(([type, versions]) => typeLine(type, ofType(state.live.events, type), h("span", { class: "soft small" }, versions.join(" ")), terms(each)))))),
  ];
}

const patternLine = (each) => h("li", null, `everything, ${many(Object.keys(each.reads).length, "type")}`, h("span", { class: "tag" }, "pattern"));

const terms = ({ suspended, eventsPerSecond }) => [suspended && h("span", { class: "tag mild" }, "suspended"), eventsPerSecond !== null && h("span", { class: "tag" }, `${eventsPerSecond}/s`)];
