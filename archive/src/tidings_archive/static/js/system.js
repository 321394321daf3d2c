/** Pure functions of the system map and of live counts. */

export const NOTHING = { types: [], subscriptions: [], deprecated: [] };
const CONFIRMATION = "archive.recordReplayOutcome"; // every consumer sends it to the archive
const key = (from, to) => `${from} ${to}`;

/**
 * The graph of the map: services, and one line from each producer to each of its consumers.
 * @param {typeof NOTHING} map
 * @param {boolean} everything also draw subscriptions by pattern, and the confirmations of replays, which all consumers send
 */
export function graph(map, everything) {
  const readers = map.subscriptions.filter((each) => everything || !each.pattern);
  const lines = new Map();
  for (const { type, intent, producers } of map.types.filter((each) => everything || each.type !== CONFIRMATION)) {
    for (const { app } of readers.filter((each) => type in each.reads)) {
      for (const producer of producers.filter((each) => each !== app)) {
        const line = lines.get(key(producer, app)) ?? { id: key(producer, app), from: producer, to: app, types: [] };
        line.types.push({ type, intent });
        lines.set(line.id, line);
      }
    }
  }
  return { services: everyone(map), lines: [...lines.values()] };
}

/** All services that publish or read events, sorted. */
export const everyone = (map) => [...new Set([...map.types.flatMap(({ producers }) => producers), ...map.subscriptions.map(({ app }) => app)])].sort();

/** Counts of all versions of a type: the API counts `orders.orderConfirmed.v2`. */
export function ofType(counts, type) {
  return Object.entries(counts).reduce((sum, [kind, count]) => (kind.replace(/\.v\d+$/, "") === type ? sum + count : sum), 0);
}

export const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

/** The number of events on a line: a reader receives one version of each event. */
export function carried(map, line, counts) {
  const reads = map.subscriptions.filter(({ app }) => app === line.to);
  return line.types.reduce((total, { type }) => {
    const versions = new Set(reads.flatMap((each) => each.reads[type] ?? []));
    return total + [...versions].reduce((events, version) => events + (counts[`${type}.${version}`] ?? 0), 0);
  }, 0);
}

/** The types and subscriptions of a service. */
export function of(map, service) {
  return {
    publishes: map.types.filter(({ producers }) => producers.includes(service)),
    reads: map.subscriptions.filter(({ app }) => app === service),
  };
}

/** The subscriptions that read a type, those by pattern last. */
export const readersOf = (map, type) =>
  map.subscriptions.filter((each) => type in each.reads).sort((one, other) => Number(one.pattern) - Number(other.pattern) || one.app.localeCompare(other.app));

/** The apps that can receive replays, sorted: those that read types by name. */
export const consumers = (map) => [...new Set(map.subscriptions.filter(({ pattern }) => !pattern).map(({ app }) => app))].sort();

/**
 * The types of a consumer as a replay names them: without a version if it reads several, of which a replay sends the
 * newest.
 * @param {string} [subscription] only the types of this subscription
 */
export function kindsOf(map, app, subscription = "") {
  const versions = {};
  for (const each of map.subscriptions.filter((one) => one.app === app && !one.pattern && (!subscription || one.name === subscription))) {
    for (const [type, read] of Object.entries(each.reads)) versions[type] = new Set([...(versions[type] ?? []), ...read]);
  }
  return Object.entries(versions).map(([type, read]) => (read.size === 1 ? `${type}.${[...read][0]}` : type)).sort();
}

/** Deprecated versions that a subscription still reads by name. */
export const stillRead = (map) => map.deprecated.filter(({ readers }) => readers.length > 0);
