/** Small pictures, 24 units wide, drawn in the colour of the text beside them. */

import { svg } from "./dom.js";

const STROKES = {
  check: "M5 12.500 10 17.500 19.500 7",
  cross: "M6 6 18 18M18 6 6 18",
  warning: "M12 4 21.500 20.500h-19ZM12 10v5M12 17.800v.200",
  offline: "M3 3 21 21M8.500 13.500a5 5 0 0 1 3-1.400M5 10a10 10 0 0 1 4-2.400M12.500 7.100a10 10 0 0 1 6.500 2.900M12 18v.200M15.500 13.500a5 5 0 0 0-.800-.700",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 2.500v2M12 19.500v2M2.500 12h2M19.500 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M5.300 18.700l1.400-1.400M17.300 6.700l1.400-1.400",
  moon: "M20 14.500A8.500 8.500 0 0 1 9.500 4 8.500 8.500 0 1 0 20 14.500Z",
  system: "M12 20.500a8.500 8.500 0 1 0 0-17 8.500 8.500 0 0 0 0 17ZM12 3.500v17M12 8h6.500M12 12h8.500M12 16h6.500",
  search: "M10.500 17.500a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM15.700 15.700 20.500 20.500",
  replay: "M4.500 12a7.500 7.500 0 1 0 2.600-5.700L4.500 8.500M4.500 4v4.500H9",
  discard: "M5 7h14M9.500 7V4.500h5V7M7 7l.800 13h8.400L17 7M10.300 10.800v5.700M13.700 10.800v5.700",
};

/** @param {keyof typeof STROKES} name */
export function icon(name) {
  const stroke = { fill: "none", stroke: "currentColor", "stroke-width": 1.9, "stroke-linecap": "round", "stroke-linejoin": "round" };
  return svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: STROKES[name], ...stroke }));
}
