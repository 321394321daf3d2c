/** Values that this browser keeps. All tabs share them. */

const PREFIX = "pizza.";
const listeners = new Map();
const memory = new Map(); // the fallback, for the lifetime of the page, where the browser allows no storage

export function read(name, otherwise) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? memory.get(name) ?? otherwise : JSON.parse(text);
  } catch {
    return memory.get(name) ?? otherwise;
  }
}

export function write(name, value) {
  memory.set(name, value);
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Full or forbidden: the copy in memory is used.
  }
  notify(name);
}

/** Call a function at each change of a value, by this tab or another. Returns a function that stops it. */
export function onChange(name, listener) {
  const own = listeners.get(name) ?? new Set();
  listeners.set(name, own.add(listener));
  return () => own.delete(listener);
}

const notify = (name) => [...(listeners.get(name) ?? [])].forEach((listener) => listener());

addEventListener("storage", ({ key }) => {
  const names = key === null ? [...listeners.keys()] : [key.slice(PREFIX.length)];
  for (const name of names) {
    memory.delete(name);
    notify(name);
  }
});
