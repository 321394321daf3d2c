/** The menu as the page knows it: asked for again and again, and kept for the time that it cannot be asked. */

import { ask, Problem } from "./api.js";
import { read, write } from "./storage.js";

const EVERY = 10_000; // milliseconds: what sells out is seen soon, and ordering it would be refused anyway

class Catalogue extends EventTarget {
  #kept = read("menu", { items: [], at: null });
  /** Why the menu could not be read the last time, or null. */
  problem = null;
  /** Whether it has been read since the page was opened. */
  fresh = false;

  get items() {
    return this.#kept.items;
  }

  /** When it was last read, as milliseconds, or null. */
  get at() {
    return this.#kept.at;
  }

  find(sku) {
    return this.items.find((item) => item.sku === sku);
  }

  async load() {
    try {
      const { items } = await ask("/api/menu");
      const changed = !this.fresh || this.problem || JSON.stringify(items) !== JSON.stringify(this.items);
      this.#kept = { items, at: Date.now() };
      this.fresh = true;
      this.problem = null;
      write("menu", this.#kept);
      if (changed) this.dispatchEvent(new Event("change"));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.problem = error;
      this.dispatchEvent(new Event("change"));
    }
  }

  /** Read it now, and from time to time as long as somebody looks. */
  keep() {
    const again = () => {
      if (!document.hidden) this.load();
    };
    this.load();
    setInterval(again, EVERY);
    document.addEventListener("visibilitychange", again);
  }
}

export const catalogue = new Catalogue();

/** A pizza of the menu, or what can be said of one that is not known. */
export const itemFor = (sku, name) =>
  catalogue.find(sku) ?? { sku, name: name ?? sku.replaceAll("-", " "), ingredients: ["wheat-dough", "tomato-sauce", "cashew-mozzarella"], imageHint: "", priceCents: null, available: true };
