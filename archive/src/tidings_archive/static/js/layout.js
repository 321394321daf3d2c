/** The layout of the map: dagre's layers with rounded corners. */

import { Graph, layout } from "../vendor/dagre.esm.js";

export const BOX = { width: 150, height: 62 };

/**
 * @param {{services: string[], lines: {id: string, from: string, to: string}[]}} drawn
 * @param {boolean} tall from top to bottom, for narrow screens
 * @returns {{width: number, height: number, boxes: Map<string, {x: number, y: number}>, ways: Map<string, {d: string, x: number, y: number}>}}
 */
export function laidOut({ services, lines }, tall) {
  const graph = new Graph({ multigraph: true });
  graph.setGraph({ rankdir: tall ? "TB" : "LR", nodesep: tall ? 16 : 30, ranksep: tall ? 62 : 68, edgesep: tall ? 10 : 18, marginx: 16, marginy: 20 });
  graph.setDefaultEdgeLabel(() => ({}));
  // dagre reverses lines that close a cycle: start with the services that have the most outgoing lines.
  const told = (name) => lines.filter(({ from }) => from === name).length;
  const first = [...services].sort((one, other) => told(other) - told(one));
  first.forEach((name) => graph.setNode(name, { ...BOX }));
  // Lines with many types are drawn straight.
  lines.forEach(({ id, from, to, types }) => graph.setEdge(from, to, { width: 26, height: 20, labelpos: "c", weight: types.length }, id));
  layout(graph);
  const { width, height } = graph.graph();
  const boxes = new Map(services.map((name) => [name, graph.node(name)]));
  const ways = new Map(lines.map(({ id, from, to }) => [id, way(graph.edge(from, to, id))]));
  return { width, height, boxes, ways };
}

const way = ({ points, x, y }) => ({ d: curve(points), ...onCurve(points, { x, y }) });

/** Move a label from dagre's corner onto the curve that replaces it. */
export function onCurve(points, label) {
  const far = ({ x, y }) => Math.hypot(x - label.x, y - label.y);
  const at = points.slice(1, -1).reduce((best, corner, index) => (far(corner) < far(points[best]) ? index + 1 : best), 1);
  const end = (step) => (points[at + step * 2] ? halfway(points[at], points[at + step]) : points[at + step]);
  return halfway(halfway(end(-1), points[at]), halfway(points[at], end(1)));
}

const halfway = (one, other) => ({ x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 });

/** A smooth path: straight to the middle between two corners, curved around each of them. */
export function curve(points) {
  const middle = (one, other) => `${round((one.x + other.x) / 2)} ${round((one.y + other.y) / 2)}`;
  const [first, ...rest] = points;
  const last = rest.pop();
  const bends = rest.map((corner, index) => `Q${round(corner.x)} ${round(corner.y)} ${index === rest.length - 1 ? `${round(last.x)} ${round(last.y)}` : middle(corner, rest[index + 1])}`);
  return `M${round(first.x)} ${round(first.y)}${bends.length ? bends.join("") : `L${round(last.x)} ${round(last.y)}`}`;
}

const round = (value) => Math.round(value * 10) / 10;
