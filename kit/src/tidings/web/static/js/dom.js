/** Creates elements. Data becomes text, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an HTML element.
 * @param {string} tag
 * @param {Record<string, unknown>} [props] attributes; `on…` functions listen; true is an empty attribute, and null
 *   and false are none.
 * @param {...unknown} children elements, text, arrays of them; null and false are left out.
 */
export function h(tag, props, ...children) {
  return finish(document.createElement(tag), props, children);
}

/** Make an SVG element; the arguments are those of `h`. */
export function svg(tag, props, ...children) {
  return finish(document.createElementNS(SVG, tag), props, children);
}

function finish(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/**
 * Replace the children of an element and keep the focus: the new element with the same `data-key` is focused or, if it
 * is missing or disabled, the one that `data-fallback` names.
 */
export function fill(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset : {};
  element.replaceChildren(...flat(children));
  for (const key of [focused.key, focused.fallback]) {
    const next = key && element.querySelector(`[data-key="${CSS.escape(key)}"]:not([disabled])`);
    if (next) return next.focus({ preventScroll: true });
  }
  return undefined;
}

/** Announce a text to screen readers. */
export function speak(text) {
  document.getElementById("spoken").textContent = text;
}
