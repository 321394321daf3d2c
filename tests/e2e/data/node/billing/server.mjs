/** Sell items, and write an invoice for each, with Node's HTTP server and client alone: no Dapr or Tidings package. */

import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";

const [port, data] = process.argv.slice(2);

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks));
}

/** Publish a sale through the sidecar. */
async function sell(orderId, customerId) {
  const event = { specversion: "1.0", id: `sale-${orderId}`, source: "billing", type: "shop.itemSold", version: "1", time: new Date().toISOString(), datacontenttype: "application/json", data: { orderId, customerId } };
  const headers = { "content-type": "application/cloudevents+json", "dapr-api-token": process.env.DAPR_API_TOKEN ?? "" };
  const url = `http://127.0.0.1:${process.env.DAPR_HTTP_PORT}/v1.0/publish/pubsub/shop.itemSold.v1`;
  return (await fetch(url, { method: "POST", headers, body: JSON.stringify(event) })).status;
}

/** Delete the invoices of a person, and answer the status. */
function forget(person) {
  const lines = readFileSync(`${data}/invoices`, "utf8").split("\n");
  writeFileSync(`${data}/invoices`, lines.filter((line) => !line || JSON.parse(line).customer !== person).join("\n"));
  return 200;
}

/** Answer the status for a path. While the file `broken` exists, no invoice can be written. */
async function handle(request) {
  if (request.url === "/healthz") return 200;
  if (request.method !== "POST") return 404;
  if (request.url.startsWith("/sales/")) return sell(...request.url.slice("/sales/".length).split("/"));
  const event = await body(request);
  if (request.url === "/forget") return forget(event.data.person);
  if (existsSync(`${data}/broken`)) return 500;
  appendFileSync(`${data}/invoices`, `${JSON.stringify({ path: request.url, id: event.id, order: event.data.orderId, customer: event.data.customerId })}\n`);
  return 200;
}

createServer(async (request, response) => response.writeHead(await handle(request)).end()).listen(Number(port), "127.0.0.1");
