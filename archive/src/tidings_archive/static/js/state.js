/** The system map and live data, which all views share. */

import { ask, Problem, repeatedly } from "./api.js";
import { NOTHING, sum } from "./system.js";

const LIVE_EVERY = 2000; // milliseconds
const MAP_EVERY = 60_000;
const TOTALS_EVERY = 30_000;
const MOST_LOOKS = 90; // three minutes

/** Dispatches `map` and `live`. */
class State extends EventTarget {
  map = NOTHING;
  /** The archive's reason why there is no map. */
  unmapped = null;
  live = { window: 60, events: {}, deadLetters: {}, waiting: null };
  totals = {};
  looks = [];
  known = false;

  start() {
    repeatedly((signal) => this.#askMap(signal), MAP_EVERY);
    repeatedly((signal) => this.look(signal), LIVE_EVERY);
    repeatedly(async (signal) => {
      this.totals = await ask("/counts", { signal });
      this.#tell("live");
    }, TOTALS_EVERY);
  }

  /** Update the live data immediately. */
  async look(signal) {
    this.live = await ask("/console/live", { signal });
    this.known = true;
    this.looks = [...this.looks, sum(this.live.events)].slice(-MOST_LOOKS);
    this.#tell("live");
  }

  get dead() {
    return sum(this.live.deadLetters);
  }

  async #askMap(signal) {
    try {
      const map = await ask("/console/map", { signal });
      if (JSON.stringify(map) === JSON.stringify(this.map)) return;
      Object.assign(this, { map, unmapped: null });
    } catch (error) {
      if (error instanceof Problem && error.status === 404) {
        Object.assign(this, { map: NOTHING, unmapped: error.message });
        this.#tell("map");
      }
      throw error;
    }
    this.#tell("map");
  }

  #tell(name) {
    this.dispatchEvent(new Event(name));
  }
}
export const state = new State();

/** Call a function now and at each of these events. Returns a function that stops it. */
export function follow(names, listener) {
  names.forEach((name) => state.addEventListener(name, listener));
  listener();
  return () => names.forEach((name) => state.removeEventListener(name, listener));
}
