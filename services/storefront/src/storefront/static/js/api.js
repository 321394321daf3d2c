/** Requests to the storefront, and which services respond. */

const PATIENCE = 12_000; // milliseconds; the storefront itself gives up on a service after five seconds
const SERVICES = { menu: "menu", orders: "orders", track: "tracking", stream: "tracking" };

/** A failed request. `message` can be shown to users. */
export class Problem extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, service?: string|null, errors?: {field: string, message: string}[]}} [about] `status` is 0
   *   without a response; `service` is the unavailable service.
   */
  constructor(message, { status = 0, service = null, errors = [] } = {}) {
    super(message);
    Object.assign(this, { status, service, errors });
  }

  /** Whether a retry may succeed. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** The unavailable services and the consequences; "page" is the storefront itself. Dispatches `change`. */
class Health extends EventTarget {
  #away = new Map();

  get away() {
    return [...this.#away.entries()];
  }

  note(service, problem) {
    const before = this.#away.get(service);
    if (before === problem?.message || (!before && !problem)) return;
    if (problem) this.#away.set(service, problem.message);
    else this.#away.delete(service);
    this.dispatchEvent(new Event("change"));
  }
}
export const health = new Health();

/**
 * Send a request, and return the JSON of the response.
 * @throws {Problem} The request was rejected, or there was no response.
 */
export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  const given = signal ? [signal] : [];
  const response = await reach(path, {
    method,
    body: body === undefined ? undefined : JSON.stringify(body),
    headers: { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
    signal: AbortSignal.any([...given, AbortSignal.timeout(PATIENCE)]),
  });
  try {
    return await response.json();
  } catch (error) {
    throw lost(error);
  }
}

/**
 * Send a request, and return a successful response; record which services respond.
 * @throws {Problem} The request was rejected, or there was no response.
 */
export async function reach(path, options) {
  const response = await fetch(path, { cache: "no-store", ...options }).catch((error) => {
    throw lost(error);
  });
  health.note("page", null);
  const service = SERVICES[path.split(/[/?]/)[2]];
  if (response.ok) {
    health.note(service, null);
    return response;
  }
  const problem = await refusal(response);
  health.note(service, problem.service ? problem : null);
  throw problem;
}

function lost(error) {
  if (error.name === "AbortError") return error; // aborted by this page
  const problem = new Problem(
    navigator.onLine === false
      ? "You are offline. Everything you have put together is kept; we go on as soon as the connection is back."
      : "We cannot reach the shop at the moment. Everything you have put together is kept; trying again…",
  );
  health.note("page", problem);
  return problem;
}

async function refusal(response) {
  const told = await response.json().catch(() => ({}));
  const message = told.detail ?? `The shop answered ${response.status}. Please try again in a moment.`;
  return new Problem(message, { status: response.status, service: told.service ?? null, errors: told.errors ?? [] });
}
