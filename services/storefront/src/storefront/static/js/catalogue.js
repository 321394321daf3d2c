/** The menu. It is requested periodically, and kept while it is unavailable. */

import { ask, Problem } from "./api.js";
import { read, write } from "./storage.js";

const EVERY = 10_000; // milliseconds

class Catalogue extends EventTarget {
  #kept = read("menu", { items: [], at: null });
  /** Why the last request failed, or null. */
  problem = null;
  /** Whether the menu has been read since the page was opened. */
  fresh = false;

  get items() {
    return this.#kept.items;
  }

  /** Time of the last successful request in milliseconds, or null. */
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

  /** Read the menu now and periodically while the page is visible. */
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

/** A pizza of the menu, or a placeholder for an unknown one. */
export const itemFor = (sku, name) =>
  catalogue.find(sku) ?? { sku, name: name ?? sku.replaceAll("-", " "), ingredients: ["wheat-dough", "tomato-sauce", "cashew-mozzarella"], imageHint: "", priceCents: null, available: true };
