/** What this browser remembers: the colours, and who decides about dead letters. */

const PREFIX = "pizza.";
const memory = new Map(); // where the browser lets us keep nothing, it lasts as long as the page

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
    // Full or forbidden: the copy in memory has to do.
  }
}
