/** Questions to the archive, and what it means when one is not answered. */

const PATIENCE = 15_000; // milliseconds

/** Something was not done. `message` can be shown to people; `status` is 0 where there was no answer at all. */
export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** What shows that this visitor may change something, until the page is closed; kept nowhere else. */
export const credentials = { token: "" };

/** Whether the archive answers. Dispatches `change`. */
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
 * Ask for JSON.
 * @param {string} path
 * @param {{query?: Record<string, unknown>, body?: object, method?: string, signal?: AbortSignal}} [how] with a body it
 *   is a POST, unless another method is named; what is empty in a query is left out.
 * @throws {Problem} It was refused, or nobody answered.
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
    const problem = "The archive does not answer. What you see is what was known last; trying again…";
    connection.note(problem);
    throw new Problem(problem);
  }
}

/** A query as an address has it; the values of a list are repeated. */
export function spelled(query) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) for (const each of [value].flat()) if (each !== "" && each !== null && each !== undefined) words.append(name, each);
  return words.size ? `?${words}` : "";
}

/**
 * Do something now and again and again, one after the other, but not while nobody looks; answers how to stop.
 * @param {(signal: AbortSignal) => Promise<void>} work may throw a Problem: then it is tried again
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
    try {
      await work(over.signal);
    } catch (error) {
      if (!(error instanceof Problem) && !over.signal.aborted) reportError(error);
    }
    busy = false;
    if (!over.signal.aborted) timer = setTimeout(again, every);
  };
  document.addEventListener("visibilitychange", again);
  again();
  return () => {
    over.abort();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", again);
  };
}
