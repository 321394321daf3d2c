/** The timeline of one correlation: a lane for each service, and arrows from causes to effects. */

import { svg } from "./dom.js";
import { hue } from "./parts.js";
import { bare, span } from "./words.js";

const LANE = 34;
const LEFT = 118;
const RIGHT = 30;
const TOP = 30;
const GAP = 15; // minimum distance of two events in a lane

/**
 * Return the places of the events. Events at nearly the same time are spread in their order, so that none hides another.
 * @param {{id: string, source: string, time: string}[]} events the earliest first
 * @param {number} width
 */
export function placed(events, width) {
  const lanes = [...new Set(events.map(({ source }) => source))];
  const [start, end] = [Date.parse(events[0].time), Date.parse(events.at(-1).time)];
  const scale = (width - LEFT - RIGHT) / Math.max(end - start, 1);
  const last = new Map();
  const spots = events.map((event) => {
    const lane = lanes.indexOf(event.source);
    const ideal = LEFT + (Date.parse(event.time) - start) * scale;
    const x = Math.max(ideal, (last.get(lane) ?? -Infinity) + GAP);
    last.set(lane, x);
    return { event, x, y: TOP + lane * LANE + LANE / 2 };
  });
  const reach = Math.max(...spots.map(({ x }) => x)) + RIGHT;
  return { lanes, spots, width: Math.max(width, reach), height: TOP + lanes.length * LANE + 8, duration: end - start };
}

/** Draw the timeline; `choose` is called with the id of a selected event. */
export function timeline(events, width, choose) {
  const { lanes, spots, width: wide, height, duration } = placed(events, width);
  const at = new Map(spots.map((spot) => [spot.event.id, spot]));
  const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => [LEFT + (width - LEFT - RIGHT) * part, span(duration * part)]);
  return svg(
    "svg",
    { class: "story", viewBox: `0 0 ${wide} ${height}`, width: wide, height, role: "img", "aria-label": `${events.length} events of ${lanes.length} services in ${span(duration)}, as in the list below` },
    marks.map(([x, told]) => [svg("line", { class: "grid", x1: x, x2: x, y1: TOP - 6, y2: height - 8 }), svg("text", { class: "mark", x, y: 14 }, told)]),
    lanes.map((name, index) => [
      svg("line", { class: "lane", x1: LEFT - 10, x2: wide - 10, y1: TOP + (index + 0.5) * LANE, y2: TOP + (index + 0.5) * LANE }),
      svg("text", { class: "lane-name", x: 4, y: TOP + (index + 0.5) * LANE + 4 }, name),
    ]),
    spots.map((spot) => cause(at.get(spot.event.causationid), spot)),
    spots.map(({ event, x, y }) => svg("g", { class: "spot", "data-hue": hue(event.source), onclick: () => choose(event.id) }, svg("circle", { cx: x, cy: y, r: 6.5 }), svg("title", null, `${bare(event.type)}, ${event.time}`))),
  );
}

function cause(from, to) {
  if (!from || from === to) return null;
  const middle = (from.x + to.x) / 2;
  return svg("path", { class: "cause", d: `M${from.x} ${from.y}C${middle} ${from.y} ${middle} ${to.y} ${to.x} ${to.y}` });
}
