/** Server-sent events over fetch, which, unlike EventSource, shows why a stream was rejected. */

import { Problem, reach } from "./api.js";

const SILENCE = 45_000; // milliseconds without a byte; tracking sends heartbeats more often
const WAITS = [1000, 2000, 4000, 8000, 15_000];

/**
 * Split server-sent events.
 * @param {AsyncIterable<string>} chunks of text, cut anywhere
 * @returns {AsyncGenerator<{event: string, data: string, id: string|null, retry: number|null}>}
 */
export async function* frames(chunks) {
  let rest = "";
  let frame = empty();
  for await (const chunk of chunks) {
    rest += chunk;
    const complete = rest.endsWith("\r") ? rest.slice(0, -1) : rest; // the chunk may end within \r\n
    const lines = complete.split(/\r\n|\n|\r/);
    rest = lines.pop() + rest.slice(complete.length);
    for (const line of lines) {
      if (line === "") {
        if (frame.data.length) yield { ...frame, data: frame.data.join("\n") };
        frame = empty();
      } else {
        take(frame, line);
      }
    }
  }
}

const empty = () => ({ event: "message", data: [], id: null, retry: null });

function take(frame, line) {
  const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
  if (field === "data") frame.data.push(value);
  else if (field === "event" || field === "id") frame[field] = value;
  else if (field === "retry" && /^\d+$/.test(value)) frame.retry = Number(value);
}

/**
 * Follow a stream across broken connections until it is closed. It pauses while the page is hidden, because a browser
 * allows six connections to a server for all its tabs.
 * @param {string} path
 * @param {(data: object) => void} onData
 * @param {(state: "connecting"|"live"|"waiting"|"hidden", problem?: import("./api.js").Problem) => void} onState
 * @returns {() => void} closes it
 */
export function follow(path, onData, onState) {
  const closed = new AbortController();
  run(path, onData, onState, closed.signal);
  return () => closed.abort();
}

async function run(path, onData, onState, closed) {
  const seen = { id: null, wait: null, misses: 0 };
  while (!closed.aborted) {
    if (document.hidden) {
      onState("hidden");
      await happens(document, "visibilitychange", closed);
      continue;
    }
    onState("connecting");
    let problem;
    try {
      await connection(path, onData, () => onState("live"), seen, closed);
    } catch (error) {
      if (error instanceof Problem) problem = error;
      else if (error.name !== "AbortError") reportError(error);
    }
    if (closed.aborted) return;
    if (document.hidden) continue;
    onState("waiting", problem);
    const wait = problem ? WAITS[Math.min(seen.misses++, WAITS.length - 1)] : seen.wait ?? WAITS[0];
    await pause(wait * (0.75 + Math.random() / 2), closed);
  }
}

/** Run one connection; throw the reason of its end. */
async function connection(path, onData, onOpen, seen, closed) {
  const ended = new AbortController();
  const end = () => ended.abort();
  const onHidden = () => document.hidden && end();
  let watchdog = setTimeout(end, SILENCE);
  const alive = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(end, SILENCE);
  };
  closed.addEventListener("abort", end);
  document.addEventListener("visibilitychange", onHidden);
  try {
    const headers = { Accept: "text/event-stream", ...(seen.id === null ? {} : { "Last-Event-ID": seen.id }) };
    const response = await reach(path, { headers, signal: ended.signal });
    onOpen();
    for await (const frame of frames(text(response.body, alive))) {
      seen.misses = 0;
      seen.id = frame.id ?? seen.id;
      seen.wait = frame.retry ?? seen.wait;
      onData(JSON.parse(frame.data));
    }
  } finally {
    end();
    clearTimeout(watchdog);
    closed.removeEventListener("abort", end);
    document.removeEventListener("visibilitychange", onHidden);
  }
}

/** Yield the text of a stream. A broken connection ends it; the next one requests what was missed. */
async function* text(body, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const read = () => reader.read().catch(() => ({ done: true }));
  for (let next = await read(); !next.done; next = await read()) {
    alive();
    yield next.value;
  }
}

/** Wait until the time is over, the network is back, or the page is visible again. */
function pause(milliseconds, closed) {
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), milliseconds);
  return Promise.race([
    happens(window, "online", over.signal),
    happens(document, "visibilitychange", over.signal),
    happens(closed, "abort", over.signal),
  ]).finally(() => {
    clearTimeout(timer);
    over.abort();
  });
}

/** Wait for an event, or for the abort signal. */
function happens(target, name, over) {
  return new Promise((resolve) => {
    const done = () => {
      target.removeEventListener(name, done);
      over.removeEventListener("abort", done);
      resolve();
    };
    target.addEventListener(name, done);
    over.addEventListener("abort", done);
    if (over.aborted) done();
  });
}
