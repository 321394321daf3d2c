/** The icons of this page. */

import { icons } from "./drawing.js";

export const icon = icons({
  search: "M10.500 17.500a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM15.700 15.700 20.500 20.500",
  replay: "M4.500 12a7.500 7.500 0 1 0 2.600-5.700L4.500 8.500M4.500 4v4.500H9",
  pause: "M8.500 5v14M15.500 5v14",
  discard: "M5 7h14M9.500 7V4.500h5V7M7 7l.800 13h8.400L17 7M10.300 10.800v5.700M13.700 10.800v5.700",
});
