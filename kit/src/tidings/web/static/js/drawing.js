/** Icons, 24 units wide, drawn in the colour of the text beside them. */

import { svg } from "./dom.js";

const COMMON = {
  check: "M5 12.500 10 17.500 19.500 7",
  cross: "M6 6 18 18M18 6 6 18",
  warning: "M12 4 21.500 20.500h-19ZM12 10v5M12 17.800v.200",
  offline: "M3 3 21 21M8.500 13.500a5 5 0 0 1 3-1.400M5 10a10 10 0 0 1 4-2.400M12.500 7.100a10 10 0 0 1 6.500 2.900M12 18v.200M15.500 13.500a5 5 0 0 0-.800-.700",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 2.500v2M12 19.500v2M2.500 12h2M19.500 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M5.300 18.700l1.400-1.400M17.300 6.700l1.400-1.400",
  moon: "M20 14.500A8.500 8.500 0 0 1 9.500 4 8.500 8.500 0 1 0 20 14.500Z",
  system: "M12 20.500a8.500 8.500 0 1 0 0-17 8.500 8.500 0 0 0 0 17ZM12 3.500v17M12 8h6.500M12 12h8.500M12 16h6.500",
};
const STROKE = { fill: "none", stroke: "currentColor", "stroke-width": 1.9, "stroke-linecap": "round", "stroke-linejoin": "round" };

/** Return a function that draws an icon by name: one of the page's own paths, or one that all pages share. */
export function icons(own) {
  const paths = { ...COMMON, ...own };
  return (name) => svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: paths[name], ...STROKE }));
}
