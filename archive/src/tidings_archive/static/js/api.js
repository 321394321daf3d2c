/** Requests to the archive, and whether it responds. */

const PATIENCE = 15_000; // milliseconds
const RETRY_AFTER = 2000;

/** A failed request. `message` can be shown to users; `status` is 0 without a response. */
export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** The token for changes. It is kept in memory only. */
export const credentials = { token: "" };

/** Whether the archive responds. Dispatches `change`. */
class Connection extends EventTarget {
  away = null;

  note(problem) {
    if (this.away === problem) return;
    this.away = problem;
    this.dispatchEvent(new Event("change"));
  }
}
export const connection = new Connection();

/**
 * Send a request, and return the JSON of the response.
 * @param {string} path
 * @param {{query?: Record<string, unknown>, body?: object, method?: string, signal?: AbortSignal}} [how] with a body, the
 *   default method is POST; empty values of the query are left out.
 * @throws {Problem} The request was rejected, or there was no response.
 */
export async function ask(path, { query = {}, body, method = "POST", signal } = {}) {
  const given = signal ? [signal] : [];
  const headers = credentials.token ? { Authorization: `Bearer ${credentials.token}` } : {};
  const told = body === undefined ? { headers } : { method, body: JSON.stringify(body), headers: { ...headers, "Content-Type": "application/json" } };
  try {
    const response = await fetch(`${path}${spelled(query)}`, { ...told, cache: "no-cache", signal: AbortSignal.any([...given, AbortSignal.timeout(PATIENCE)]) });
    const answer = await response.json();
    connection.note(null);
    if (!response.ok) throw new Problem(answer.detail ?? `the archive answered ${response.status}`, response.status);
    return answer;
  } catch (error) {
    if (error instanceof Problem || signal?.aborted) throw error;
    const problem = "The archive is not responding. The data shown may be out of date. Retrying…";
    connection.note(problem);
    throw new Problem(problem);
  }
}

/** Encode a query; a list is repeated. */
export function spelled(query) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) for (const each of [value].flat()) if (each !== "" && each !== null && each !== undefined) words.append(name, each);
  return words.size ? `?${words}` : "";
}

/**
 * Request something now and then periodically. Returns a function that stops it.
 * @param {string} path
 * @param {Record<string, unknown>} query
 * @param {number} every milliseconds
 * @param {(answer: object) => void} changed receives each response that differs from the one before
 * @param {(message: string) => void} refused receives the reason of each rejection
 */
export function polled(path, query, every, changed, refused) {
  let seen = "";
  return repeatedly(async (signal) => {
    try {
      const answer = await ask(path, { query, signal });
      const now = JSON.stringify(answer);
      if (now === seen) return;
      seen = now;
      changed(answer);
    } catch (error) {
      if (error instanceof Problem && error.status) {
        seen = ""; // the reason has replaced what was shown
        refused(error.message);
      }
      throw error;
    }
  }, every);
}

/**
 * Run a function now and then periodically, but not while the page is hidden; after a failure, within two seconds.
 * Returns a function that stops it.
 * @param {(signal: AbortSignal) => Promise<void>} work may throw a Problem, and runs again later then
 * @param {number} every milliseconds
 */
export function repeatedly(work, every) {
  const over = new AbortController();
  let timer;
  let busy = false;
  const again = async () => {
    clearTimeout(timer);
    if (busy || over.signal.aborted || document.hidden) return;
    busy = true;
    let next = every;
    try {
      await work(over.signal);
    } catch (error) {
      next = Math.min(every, RETRY_AFTER);
      if (!(error instanceof Problem) && !over.signal.aborted) reportError(error);
    }
    busy = false;
    if (!over.signal.aborted) timer = setTimeout(again, next);
  };
  document.addEventListener("visibilitychange", again);
  again();
  return () => {
    over.abort();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", again);
  };
}
