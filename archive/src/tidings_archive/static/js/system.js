/** The system's map as the plan has it, and what goes on in it. Pure: what is asked for and drawn stands elsewhere. */

export const NOTHING = { types: [], subscriptions: [], deprecated: [] };
const CONFIRMATION = "archive.recordReplayOutcome"; // every consumer sends it to the archive
const key = (from, to) => `${from} ${to}`;

/**
 * Who tells whom what: services, and one line from each producer to each of its readers.
 * @param {typeof NOTHING} map
 * @param {boolean} everything whether those who read by pattern, who would be at the end of every line, are drawn too, and
 *   the confirmations of replays, which come from everybody
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

/** Every service that publishes or reads something, sorted. */
export const everyone = (map) => [...new Set([...map.types.flatMap(({ producers }) => producers), ...map.subscriptions.map(({ app }) => app)])].sort();

/** Counts of all versions of a type: the API counts `orders.orderConfirmed.v2`. */
export function ofType(counts, type) {
  return Object.entries(counts).reduce((sum, [kind, count]) => (kind.replace(/\.v\d+$/, "") === type ? sum + count : sum), 0);
}

export const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

/** What a line carries: the latest version of each fact is one event, and a reader takes one version of it. */
export function carried(map, line, counts) {
  const reads = map.subscriptions.filter(({ app }) => app === line.to);
  return line.types.reduce((total, { type }) => {
    const versions = new Set(reads.flatMap((each) => each.reads[type] ?? []));
    return total + [...versions].reduce((events, version) => events + (counts[`${type}.${version}`] ?? 0), 0);
  }, 0);
}

/** What a service publishes and reads, by type. */
export function of(map, service) {
  return {
    publishes: map.types.filter(({ producers }) => producers.includes(service)),
    reads: map.subscriptions.filter(({ app }) => app === service),
  };
}

/** The readers of a type, those by name first. */
export const readersOf = (map, type) =>
  map.subscriptions.filter((each) => type in each.reads).sort((one, other) => Number(one.pattern) - Number(other.pattern) || one.app.localeCompare(other.app));

/** The apps that can be sent something again, sorted: those that read a type by its name. */
export const consumers = (map) => [...new Set(map.subscriptions.filter(({ pattern }) => !pattern).map(({ app }) => app))].sort();

/**
 * What a consumer reads by name, each as a replay names it: the type where it reads several of its versions, each fact
 * then being sent once in its newest; else the one version that it reads.
 * @param {string} [subscription] only what this one reads
 */
export function kindsOf(map, app, subscription = "") {
  const versions = {};
  for (const each of map.subscriptions.filter((one) => one.app === app && !one.pattern && (!subscription || one.name === subscription))) {
    for (const [type, read] of Object.entries(each.reads)) versions[type] = new Set([...(versions[type] ?? []), ...read]);
  }
  return Object.entries(versions).map(([type, read]) => (read.size === 1 ? `${type}.${[...read][0]}` : type)).sort();
}

/** Deprecated versions, and among them those that somebody still reads by name. */
export const stillRead = (map) => map.deprecated.filter(({ readers }) => readers.length > 0);
