/** Small pictures, 24 units wide, drawn in the colour of the text beside them. */

import { svg } from "./dom.js";

const STROKES = {
  bag: "M5 8h14l-1.200 12.500H6.200ZM9 8V6.500a3 3 0 0 1 6 0V8",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  check: "M5 12.500 10 17.500 19.500 7",
  cross: "M6 6 18 18M18 6 6 18",
  warning: "M12 4 21.500 20.500h-19ZM12 10v5M12 17.800v.200",
  offline: "M3 3 21 21M8.500 13.500a5 5 0 0 1 3-1.400M5 10a10 10 0 0 1 4-2.400M12.500 7.100a10 10 0 0 1 6.500 2.900M12 18v.200M15.500 13.500a5 5 0 0 0-.800-.700",
  shop: "M4 10v10h16V10M3 10l1.800-6h14.400L21 10a3 3 0 0 1-6 0 3 3 0 0 1-6 0 3 3 0 0 1-6 0ZM9.500 20v-5.500h5V20",
  bike: "M6 20a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7ZM18 20a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7ZM6 16.500 9.500 9h5.500l3 7.500M9.500 9 13 16.500 15.500 10M8 6.500h3M15 9l-.800-2.500H17",
  card: "M3 6.500h18v11H3ZM3 10h18M6.500 14.500h4",
  refused: "M3 6.500h18v11H3ZM3 10h18M14 12.800l4 3.400M18 12.800l-4 3.400",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 2.500v2M12 19.500v2M2.500 12h2M19.500 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M5.300 18.700l1.400-1.400M17.300 6.700l1.400-1.400",
  moon: "M20 14.500A8.500 8.500 0 0 1 9.500 4 8.500 8.500 0 1 0 20 14.500Z",
  system: "M12 20.500a8.500 8.500 0 1 0 0-17 8.500 8.500 0 0 0 0 17ZM12 3.500v17M12 8h6.500M12 12h8.500M12 16h6.500",
  arrow: "M5 12h14M13 6l6 6-6 6",
};

/** @param {keyof typeof STROKES} name */
export function icon(name) {
  const stroke = { fill: "none", stroke: "currentColor", "stroke-width": 1.9, "stroke-linecap": "round", "stroke-linejoin": "round" };
  return svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: STROKES[name], ...stroke }));
}
