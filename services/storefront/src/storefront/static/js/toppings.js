/**
 * The toppings, drawn around 0,0 with a width of about 20 units; a pizza is 200 units wide. Each has a number of
 * pieces, the size of a piece, and a function that draws it.
 */

import { svg } from "./dom.js";

const path = (d, fill, more = {}) => svg("path", { d, fill, ...more });
const line = (d, stroke, width, more = {}) =>
  svg("path", { d, fill: "none", stroke, "stroke-width": width, "stroke-linecap": "round", "stroke-linejoin": "round", ...more });
const disc = (cx, cy, r, fill, more = {}) => svg("circle", { cx, cy, r, fill, ...more });
const oval = (cx, cy, rx, ry, fill, more = {}) => svg("ellipse", { cx, cy, rx, ry, fill, ...more });
const shade = (d, dx = 1.2, dy = 1.8) => path(d, "#000", { opacity: 0.2, transform: `translate(${dx} ${dy})` });
const times = (count, draw) => Array.from({ length: count }, (_, index) => draw(index));
const around = (random, reach) => [(random() - 0.5) * 2 * reach, (random() - 0.5) * 2 * reach];
const pick = (random, list) => list[Math.floor(random() * list.length)];

const LEAF = "M0 -13C8 -9 9.500 3 0 13C-9.500 3 -8 -9 0 -13Z";
const HALF = "M0 -13C8 -9 9.500 3 0 13C2 4 2 -5 0 -13Z";

const leaf = (light, dark, vein) => [
  shade(LEAF),
  path(LEAF, light),
  path(HALF, dark),
  line("M0 -10V10M0 -4L4 -7M0 -4L-4 -7M0 2L4.500 -1M0 2L-4.500 -1", vein, 0.8, { opacity: 0.7 }),
];

const sprig = (stem, needles, length, pairs) => [
  line(`M0 ${length}C1.500 ${length / 3} -1.500 ${-length / 3} 0 ${-length}`, stem, 1.3),
  times(pairs, (index) => {
    const y = -length + 1 + (index * 2 * length) / pairs;
    return needles(y, index);
  }),
];

const slice = (rim, flesh, core, seeds, grilled) => (random) => [
  disc(1.2, 1.8, 12, "#000", { opacity: 0.2 }),
  disc(0, 0, 12, rim),
  disc(0, 0, 10.2, flesh),
  disc(0, 0, 6.6, core),
  times(8, (index) => {
    const angle = (index / 8) * 2 * Math.PI + random() * 0.4;
    return oval(Math.cos(angle) * 4.8, Math.sin(angle) * 4.8, 1, 0.6, seeds, { opacity: 0.75 });
  }),
  grilled && line("M-8.500 -4.500L4.500 -8.500M-10 1.500L8.500 -4.200M-8.500 6.500L9.800 0.500M-3 9.600L7 6.400", "#4a2a12", 1.5, { opacity: 0.5 }),
];

const chunk = (light, dark, streak) => (random) => {
  const d = "M-10 -3C-6 -9 3 -8 8 -5C13 -1 9 6 3 7C-3 9 -12 6 -10 -3Z";
  return [
    shade(d),
    path(d, dark),
    times(4, (index) => {
      const y = -5 + index * 3.2;
      return line(`M-7 ${y}Q0 ${y - 3 + random() * 4} 7 ${y + random() * 2}`, index % 2 ? streak : light, 2);
    }),
  ];
};

export const TOPPINGS = {
  basil: { count: 7, room: 11, draw: (random) => leaf(pick(random, ["#3f9a4c", "#358a45"]), "#2a7338", "#bfe3b4") },
  spinach: { count: 8, room: 12, draw: () => leaf("#3a7d3f", "#2b6433", "#9cc79a") },
  coriander: {
    count: 9,
    room: 8,
    draw: () => {
      const d = "M0 10L0 1C-5 4 -10 1 -9 -4C-6 -5 -5 -4 -4 -2C-6 -8 -3 -11 0 -11C3 -11 6 -8 4 -2C5 -4 6 -5 9 -4C10 1 5 4 0 1Z";
      return [shade(d, 0.8, 1.2), path(d, "#58a84a"), line("M0 9V-7M0 -1L-5 -2M0 -1L5 -2", "#2f7a34", 0.9)];
    },
  },
  rocket: {
    count: 15,
    room: 5,
    heap: true,
    draw: (random) => {
      const d = "M0 15C-1.500 9 -2 6 -5 6C-7 4 -4 2.500 -2 2C-5 1 -8 -1 -7 -4C-4 -4.500 -3 -3 -1.800 -2C-4 -6 -4 -12 0 -15C4 -12 4 -6 1.800 -2C3 -3 4 -4.500 7 -4C8 -1 5 1 2 2C4 2.500 7 4 5 6C2 6 1.500 9 0 15Z";
      return [shade(d), path(d, pick(random, ["#3f8f3e", "#57a548", "#357f3a"])), line("M0 14V-11", "#cfe8b8", 0.9, { opacity: 0.8 })];
    },
  },
  oregano: {
    count: 24,
    room: 3,
    draw: (random) => times(3, () => {
      const [x, y] = around(random, 3);
      return oval(x, y, 1.9, 1.1, pick(random, ["#4c6b2c", "#3d5a26", "#6b8438"]), { transform: `rotate(${random() * 180})` });
    }),
  },
  thyme: {
    count: 8,
    room: 8,
    draw: () => sprig("#6d7b3a", (y) => [oval(2.6, y, 2.5, 1.3, "#6f9349", { transform: `rotate(-28 2.600 ${y})` }), oval(-2.6, y + 1, 2.5, 1.3, "#557a3a", { transform: `rotate(28 -2.600 ${y + 1})` })], 11, 6),
  },
  rosemary: {
    count: 7,
    room: 8,
    draw: () => sprig("#6b5a34", (y) => [line(`M0 ${y + 2}L5 ${y - 2.5}`, "#4f7d4a", 1.5), line(`M0 ${y + 2}L-5 ${y - 2.5}`, "#3c6a42", 1.5)], 12, 8),
  },
  garlic: {
    count: 10,
    room: 7,
    draw: () => {
      const d = "M-6 3C-6 -4 2 -7 6 -3C7 0 4 1 1 2C-1 3 -2 6 -4 6C-5.500 6 -6 5 -6 3Z";
      return [shade(d, 0.8, 1.2), path(d, "#f7eccb"), path(d, "none", { stroke: "#d9b873", "stroke-width": 0.9 }), line("M-3.500 3C-3 -1 1 -4 4 -3", "#e2cb93", 0.8)];
    },
  },
  "seitan-salami": {
    count: 10,
    room: 13.5,
    draw: (random) => [
      disc(1.4, 2.2, 13, "#000", { opacity: 0.24 }),
      disc(0, 0, 13, "#8f2417"),
      disc(0, -0.5, 11.6, "#b93a27"),
      disc(-0.4, 0.4, 9.6, "#c84a33"),
      times(9, () => disc(...around(random, 6.5), 0.8 + random() * 0.9, pick(random, ["#eab09a", "#e2977e", "#7d1d12"]), { opacity: 0.85 })),
      line("M-9.500 -5.500C-6.500 -10 0 -12 5 -10.400", "#f08b6c", 1.6, { opacity: 0.75 }),
    ],
  },
  "roasted-pepper": {
    count: 8,
    room: 10,
    draw: (random) => {
      const d = `M-12 ${3 + random() * 3}Q-2 ${-9 - random() * 3} 12 ${random() * 4 - 2}`;
      return [
        line(d, "#000", 6, { opacity: 0.18, transform: "translate(1 1.800)" }),
        line(d, pick(random, ["#e0641f", "#d8432b", "#eb8a24"]), 6),
        line(d, "#ffc48a", 1.2, { opacity: 0.65, transform: "translate(0 -1.500)" }),
        line("M-8 0.500L-6 -1.500M8 -1.500L10 0", "#3a1a10", 2.4, { opacity: 0.6 }),
      ];
    },
  },
  chilli: {
    count: 11,
    room: 5,
    draw: () => [disc(0.7, 1, 4.6, "#000", { opacity: 0.2 }), disc(0, 0, 4.6, "#d6231e"), disc(0, 0, 2.9, "#f6b48d"), disc(-0.8, -0.6, 0.8, "#fff2cf"), disc(1, 0.7, 0.8, "#fff2cf")],
  },
  "king-oyster-mushroom": {
    count: 8,
    room: 12,
    draw: () => {
      const d = "M-4 13C-6 4 -5 0 -10 -3C-13 -8 -6 -13 0 -13C6 -13 13 -8 10 -3C5 0 6 4 4 13C3 15 -3 15 -4 13Z";
      return [shade(d), path(d, "#efdcb6"), path("M-10 -3C-13 -8 -6 -13 0 -13C6 -13 13 -8 10 -3C4 -6 -4 -6 -10 -3Z", "#b9854b"), line("M-1.800 12C-2.500 5 -2 1 -3 -3M2 12C2.500 5 2 1 3 -3", "#cfae7c", 1), path(d, "none", { stroke: "#a8773f", "stroke-width": 1, opacity: 0.8 })];
    },
  },
  "chestnut-mushroom": {
    count: 10,
    room: 10,
    draw: () => {
      const d = "M-3 9C-2.500 4 -3 2 -9.500 1C-11 -7 -5 -11 0 -11C5 -11 11 -7 9.500 1C3 2 2.500 4 3 9C2 10.500 -2 10.500 -3 9Z";
      return [shade(d), path(d, "#7a4a26"), path("M-1.800 8C-1.500 3 -2 0 -7 -1C-7 -6 -3.500 -8.500 0 -8.500C3.500 -8.500 7 -6 7 -1C2 0 1.500 3 1.800 8Z", "#e7cfa6"), path("M-7 -1C-4 -2.500 4 -2.500 7 -1C3 0.800 -3 0.800 -7 -1Z", "#8b6038")];
    },
  },
  jackfruit: { count: 12, room: 10, draw: chunk("#c98748", "#7d421b", "#a35f29") },
  "red-onion": {
    count: 9,
    room: 10,
    draw: (random) => {
      const turn = { "stroke-dasharray": random() > 0.5 ? "46 30" : "none" };
      return [oval(1, 1.6, 10, 8, "none", { stroke: "#000", "stroke-width": 3, opacity: 0.16 }), oval(0, 0, 10, 8, "none", { stroke: "#8d2f77", "stroke-width": 3.2, ...turn }), oval(0, 0, 8.4, 6.5, "none", { stroke: "#f3dcef", "stroke-width": 1.6, ...turn }), oval(0, 0, 5, 3.6, "none", { stroke: "#b9609f", "stroke-width": 1.6 })];
    },
  },
  sweetcorn: {
    count: 13,
    room: 6,
    draw: (random) => times(4, () => {
      const [x, y] = around(random, 5.5);
      return [oval(x + 0.6, y + 1, 2.7, 2.3, "#000", { opacity: 0.2 }), oval(x, y, 2.7, 2.3, "#f6c534"), oval(x - 0.7, y - 0.7, 1, 0.7, "#fff0b0")];
    }),
  },
  courgette: { count: 7, room: 12.5, draw: slice("#35722f", "#cfe09a", "#e6edbd", "#a7b76a", true) },
  aubergine: { count: 7, room: 12.5, draw: slice("#43204d", "#d9c39a", "#e8d7b4", "#94713f", true) },
  "cherry-tomato": {
    count: 9,
    room: 8.5,
    draw: () => [
      disc(1, 1.6, 8.2, "#000", { opacity: 0.22 }),
      disc(0, 0, 8.2, "#cf2b1f"),
      disc(0, 0, 6.9, "#ec5237"),
      times(3, (index) => {
        const angle = (index / 3) * 2 * Math.PI - 0.5;
        const [x, y] = [Math.cos(angle) * 3.3, Math.sin(angle) * 3.3];
        return [oval(x, y, 2.3, 1.9, "#f79a4b"), disc(x, y, 0.8, "#ffe9a8")];
      }),
      line("M-5.500 -4C-3.500 -6.500 0 -7.300 2.500 -6.600", "#ffb39c", 1.1, { opacity: 0.9 }),
    ],
  },
  "smoked-tofu": {
    count: 12,
    room: 10,
    draw: () => [
      path("M0 -9L9 -4.500V5L0 10L-9 5V-4.500Z", "#000", { opacity: 0.22, transform: "translate(1.300 2)" }),
      path("M0 -9L9 -4.500L0 0L-9 -4.500Z", "#f3d9a4"),
      path("M-9 -4.500L0 0V10L-9 5Z", "#c88a45"),
      path("M9 -4.500L0 0V10L9 5Z", "#9a5a24"),
      line("M-5 -4.700L4 -4.700M-2 -6.500L2 -6.500M-2 -2.800L2 -2.800", "#a9652a", 1.3, { opacity: 0.9 }),
    ],
  },
  "spring-onion": {
    count: 15,
    room: 4.5,
    draw: (random) => [
      disc(0.6, 0.9, 4, "none", { stroke: "#000", "stroke-width": 2, opacity: 0.18 }),
      disc(0, 0, 4, "#e6f3cb", { stroke: pick(random, ["#4f9a3c", "#71b24d"]), "stroke-width": 2 }),
      disc(0, 0, 1.4, "none", { stroke: "#9ccb74", "stroke-width": 1 }),
    ],
  },
  sesame: {
    count: 50,
    room: 2,
    draw: () => [oval(0.3, 0.5, 1.2, 2, "#000", { opacity: 0.2 }), oval(0, 0, 1.2, 2, "#fbeecb")],
  },
  "pickled-ginger": {
    count: 7,
    room: 9,
    draw: () => {
      const d = "M-10 4C-8 -6 -3 -8 1 -5C4 -9 10 -6 10 0C7 -2 5 -1 4 3C1 0 -2 1 -3 6C-5 3 -8 3 -10 4Z";
      return [shade(d), path(d, "#f5b1a8"), line("M-7 1C-5 -4 -2 -5 0 -2M3 0C4 -4 7 -4 8 -2", "#e2837f", 1, { opacity: 0.8 })];
    },
  },
  potato: {
    count: 24,
    room: 8,
    draw: (random) => [
      disc(0.9, 1.4, 10.5, "#000", { opacity: 0.18 }),
      disc(0, 0, 10.5, "#b97a24"),
      disc(-0.3, -0.3, 9.4, pick(random, ["#efc65f", "#f3d27a", "#eabb50"])),
      times(4, () => disc(...around(random, 5), 0.9 + random(), "#c98d33", { opacity: 0.45 })),
      line("M-6.500 -4.500C-4.500 -7.500 -1 -8.600 2 -8", "#fff3c4", 1.1, { opacity: 0.8 }),
    ],
  },
  "green-bean": {
    count: 10,
    room: 8,
    draw: (random) => {
      const d = `M-12 ${random() * 4}Q0 ${-5 - random() * 3} 12 ${random() * 4}`;
      return [line(d, "#000", 4, { opacity: 0.2, transform: "translate(0.800 1.400)" }), line(d, "#4f8a35", 4), line(d, "#93c266", 1.2, { transform: "translate(0 -0.900)" })];
    },
  },
  artichoke: {
    count: 8,
    room: 12,
    draw: () => {
      const d = "M0 13C-9 10 -13 2 -11 -8C-7 -7 -5 -5 -4 -3C-4 -8 -2 -11 0 -13C2 -11 4 -8 4 -3C5 -5 7 -7 11 -8C13 2 9 10 0 13Z";
      return [shade(d), path(d, "#8a9a52"), path("M0 11C-6 8 -8 3 -7.500 -2C-4 0 -2 3 0 7C2 3 4 0 7.500 -2C8 3 6 8 0 11Z", "#dcd9a0"), path("M0 6C-3 2 -3 -5 0 -10C3 -5 3 2 0 6Z", "#b7bd76"), line("M-9.500 -5C-8 2 -5 8 0 11.500C5 8 8 2 9.500 -5", "#66763a", 0.9)];
    },
  },
  olives: {
    count: 12,
    room: 6,
    draw: () => [disc(0.8, 1.2, 4.4, "none", { stroke: "#000", "stroke-width": 3.4, opacity: 0.2 }), disc(0, 0, 4.4, "none", { stroke: "#2c2530", "stroke-width": 3.4 }), line("M-3.800 -3.200C-2 -5.200 1 -5.600 3 -4.500", "#8a7f92", 1)],
  },
};

/** An unknown ingredient: a piece in a colour that depends on its name. */
export function unknownTopping(name) {
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
  const d = "M-9 -2C-7 -9 4 -9 8 -4C11 1 6 8 0 8C-6 8 -11 4 -9 -2Z";
  return {
    count: 9,
    room: 10,
    draw: () => [shade(d), path(d, `hsl(${hue} 55% 42%)`), line("M-5 -3C-3 -6 2 -6 4.500 -3.500", `hsl(${hue} 70% 74%)`, 1.4)],
  };
}
