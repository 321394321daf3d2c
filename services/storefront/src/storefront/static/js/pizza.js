/** Draws a pizza from its ingredients, always in the same way. */

import { svg } from "./dom.js";
import { TOPPINGS, unknownTopping } from "./toppings.js";

const DOUGHS = {
  "wheat-dough": ["#f0c987", "#d9963f", "#a9642a"],
  "buckwheat-dough": ["#b98d5c", "#8d5f36", "#5f3d22"],
};
const SAUCES = {
  "tomato-sauce": ["#df4f33", "#b92f1d"],
  "bbq-sauce": ["#86391a", "#5a2210"],
  "teriyaki-sauce": ["#d79a4e", "#a8662a"],
  "oat-cream": ["#f8efd9", "#e3cfa6"],
  "walnut-pesto": ["#93a845", "#66802c"],
};
/** Words of the menu's image hint that affect the drawing. */
const HINTS = [
  [/dark crust/, (look) => ({ ...look, dough: DOUGHS["buckwheat-dough"] })],
  [/deep red/, (look) => ({ ...look, sauce: ["#c63a24", "#94200f"] })],
  [/pale cream/, (look) => ({ ...look, sauce: SAUCES["oat-cream"] })],
  [/green base/, (look) => ({ ...look, sauce: SAUCES["walnut-pesto"] })],
];
const NOT_ON_TOP = new Set([...Object.keys(DOUGHS), ...Object.keys(SAUCES), "cashew-mozzarella", "olive-oil"]);
const EDGE = 66; // maximum distance of toppings from the centre

let drawn = 0;

/**
 * Draw a pizza.
 * @param {{sku: string, name: string, ingredients: string[], imageHint: string}} item
 * @param {{label?: boolean}} [how] without a label, it is hidden from screen readers
 */
export function pizza(item, { label = true } = {}) {
  const random = randomFor(item.sku);
  const id = `pizza${++drawn}`;
  const { dough, sauce } = look(item);
  const has = (name) => item.ingredients.includes(name);
  const names = item.ingredients.filter((name) => !NOT_ON_TOP.has(name));
  const described = `${item.name}, drawn: ${item.imageHint || names.join(", ").replaceAll("-", " ")}`;
  return svg(
    "svg",
    { viewBox: "-100 -100 200 200", class: "pizza", ...(label ? { role: "img", "aria-label": described } : { "aria-hidden": "true" }) },
    svg(
      "defs",
      null,
      gradient(`${id}-crust`, [[0, dough[0]], [0.84, dough[0]], [0.93, dough[1]], [1, dough[2]]]),
      gradient(`${id}-sauce`, [[0, sauce[0]], [0.7, sauce[0]], [1, sauce[1]]]),
      gradient(`${id}-shadow`, [[0, "#000", 0.5], [0.86, "#000", 0.34], [1, "#000", 0]]),
    ),
    svg("ellipse", { cx: 0, cy: 7, rx: 98, ry: 93, fill: `url(#${id}-shadow)` }),
    crust(id, dough, random),
    blob(76, 2.4, 22, random, { fill: sauce[1] }),
    blob(74, 2.8, 20, random, { fill: `url(#${id}-sauce)` }),
    sheen(sauce, random),
    has("cashew-mozzarella") && cheese(random),
    has("teriyaki-sauce") && drizzle("#5b2a0c", random),
    toppings(names, random),
    has("olive-oil") && oil(random),
  );
}

function look(item) {
  const first = (known) => known[item.ingredients.find((name) => name in known)];
  const plain = { dough: first(DOUGHS) ?? DOUGHS["wheat-dough"], sauce: first(SAUCES) ?? ["#efd39a", "#dcb36c"] };
  return HINTS.filter(([hint]) => hint.test(item.imageHint ?? "")).reduce((result, [, change]) => change(result), plain);
}

/** Pseudo-random numbers from 0 to 1, seeded by a name (mulberry32). */
function randomFor(name) {
  let state = [...name].reduce((sum, letter) => Math.imul(sum ^ letter.codePointAt(0), 16_777_619), 2_166_136_261) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const gradient = (id, stops) =>
  svg("radialGradient", { id }, stops.map(([offset, color, opacity = 1]) => svg("stop", { offset, "stop-color": color, "stop-opacity": opacity })));

/** A smooth, slightly irregular circle. */
function blob(radius, wobble, points, random, props, cx = 0, cy = 0) {
  const corners = Array.from({ length: points }, (_, index) => {
    const angle = (index / points) * 2 * Math.PI;
    const r = radius + (random() - 0.5) * 2 * wobble;
    return [cx + Math.cos(angle) * r, cy + Math.sin(angle) * r];
  });
  return svg("path", { d: smooth(corners), ...props });
}

/** A closed curve through points (Catmull-Rom as Bézier). */
function smooth(points) {
  const at = (index) => points[(index + points.length) % points.length];
  const round = (number) => Math.round(number * 10) / 10;
  const curves = points.map((_, index) => {
    const [before, from, to, after] = [at(index - 1), at(index), at(index + 1), at(index + 2)];
    const bend = (axis) => [from[axis] + (to[axis] - before[axis]) / 6, to[axis] - (after[axis] - from[axis]) / 6];
    const [[x1, x2], [y1, y2]] = [bend(0), bend(1)];
    return `C${[x1, y1, x2, y2, ...to].map(round).join(" ")}`;
  });
  return `M${points[0].map(round).join(" ")}${curves.join("")}Z`;
}

const polar = (angle, radius) => [Math.cos(angle) * radius, Math.sin(angle) * radius];

function crust(id, dough, random) {
  const spots = Array.from({ length: 34 }, () => {
    const angle = random() * 2 * Math.PI;
    const [x, y] = polar(angle, 80 + random() * 12);
    const turn = `rotate(${(angle * 180) / Math.PI + 90} ${x} ${y})`;
    return svg("ellipse", { cx: x, cy: y, rx: 1.2 + random() * 3.6, ry: 0.8 + random() * 1.8, fill: "#4a230c", opacity: 0.12 + random() * 0.42, transform: turn });
  });
  const bubbles = Array.from({ length: 12 }, () => {
    const [x, y] = polar(random() * 2 * Math.PI, 84 + random() * 5);
    const r = 3 + random() * 3.5;
    return [svg("circle", { cx: x, cy: y, r, fill: dough[0], opacity: 0.6 }), svg("circle", { cx: x - r / 4, cy: y - r / 3, r: r / 2.2, fill: "#fff3d6", opacity: 0.26 })];
  });
  return [blob(94, 1.8, 26, random, { fill: `url(#${id}-crust)` }), bubbles, spots, blob(79.5, 1.8, 24, random, { fill: dough[2], opacity: 0.55 })];
}

function sheen(sauce, random) {
  return Array.from({ length: 26 }, (_, index) => {
    const [x, y] = polar(random() * 2 * Math.PI, Math.sqrt(random()) * 68);
    const fill = index % 3 ? sauce[1] : "#fff";
    return svg("ellipse", { cx: x, cy: y, rx: 3 + random() * 8, ry: 2 + random() * 4, fill, opacity: index % 3 ? 0.22 : 0.1 });
  });
}

function cheese(random) {
  return scatter(11, 16, random, [], 60).map(([x, y]) => {
    const r = 9 + random() * 9;
    const freckles = Array.from({ length: 4 }, () => {
      const [dx, dy] = polar(random() * 2 * Math.PI, random() * r * 0.7);
      return svg("circle", { cx: x + dx, cy: y + dy, r: 0.8 + random() * 1.8, fill: "#c98a3c", opacity: 0.25 + random() * 0.35 });
    });
    return [
      blob(r + 1.6, 1.6, 10, random, { fill: "#d9a95a", opacity: 0.55 }, x + 0.6, y + 1),
      blob(r, 1.8, 10, random, { fill: "#fdf3d8" }, x, y),
      svg("ellipse", { cx: x - r / 4, cy: y - r / 3, rx: r / 2.4, ry: r / 4, fill: "#fffdf4", opacity: 0.9 }),
      freckles,
    ];
  });
}

/** The toppings by size, so that herbs and seeds are on top; a heap comes last. */
function toppings(names, random) {
  const known = names.map((name) => TOPPINGS[name] ?? unknownTopping(name));
  const taken = [];
  const crowd = known.length > 3 ? 0.8 : 1;
  return known
    .sort((one, other) => Boolean(one.heap) - Boolean(other.heap) || other.room - one.room)
    .map((topping) => {
      const small = topping.room < 6;
      const count = small ? topping.count : Math.round(topping.count * crowd);
      const spots = topping.heap ? heap(count, random) : scatter(count, topping.room, random, small ? [] : taken, EDGE);
      if (!small) taken.push(...spots);
      return spots.map(([x, y]) => {
        const placed = `translate(${x.toFixed(1)} ${y.toFixed(1)}) rotate(${Math.floor(random() * 360)}) scale(${(0.9 + random() * 0.25).toFixed(2)})`;
        return svg("g", { transform: placed }, topping.draw(random));
      });
    });
}

/** Free places for toppings, by Mitchell's best-candidate algorithm. */
function scatter(count, room, random, taken, edge) {
  const spots = [];
  for (let index = 0; index < count; index += 1) {
    let best = null;
    for (let attempt = 0; attempt < 14; attempt += 1) {
      const [x, y] = polar(random() * 2 * Math.PI, Math.sqrt(random()) * (edge + 6 - room));
      const free = (list) => Math.min(200, ...list.map(([ox, oy]) => Math.hypot(x - ox, y - oy)));
      const gap = Math.min(free(spots), free(taken) * 1.15);
      if (!best || gap > best.gap) best = { x, y, gap };
    }
    spots.push([best.x, best.y]);
  }
  return spots;
}

const heap = (count, random) => Array.from({ length: count }, () => polar(random() * 2 * Math.PI, random() * 26));

/** Glaze, poured from side to side. */
function drizzle(color, random) {
  const turns = Array.from({ length: 10 }, (_, index) => {
    const x = -58 + index * 13;
    const reach = Math.sqrt(Math.max(0, 66 ** 2 - x ** 2)) * (0.82 + random() * 0.14);
    return [x, index % 2 ? -reach : reach];
  });
  const curves = turns.slice(1).map(([x, y], index) => `C${turns[index][0] + 7} ${turns[index][1]} ${x - 7} ${y} ${x} ${y}`);
  const stroke = { d: `M${turns[0]}${curves.join("")}`, fill: "none", "stroke-linecap": "round" };
  return [svg("path", { ...stroke, stroke: color, "stroke-width": 3.4, opacity: 0.7 }), svg("path", { ...stroke, stroke: "#f0c48c", "stroke-width": 0.8, opacity: 0.55, transform: "translate(-0.800 -0.800)" })];
}

function oil(random) {
  return Array.from({ length: 12 }, () => {
    const [x, y] = polar(random() * 2 * Math.PI, Math.sqrt(random()) * 66);
    const r = 1.2 + random() * 2.6;
    return [svg("circle", { cx: x, cy: y, r, fill: "#f2c94a", opacity: 0.5 }), svg("circle", { cx: x - r / 3, cy: y - r / 3, r: r / 3, fill: "#fffbe2", opacity: 0.9 })];
  });
}
