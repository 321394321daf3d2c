"""The services behind the storefront, played: what they answer is set by the test, and each can go away by itself."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Header, Request
from fastapi.responses import StreamingResponse

from menu.use_cases import initial_recipes
from storefront.main import application
from storefront.settings import StorefrontSettings
from tidings.web import problems
from tidings_cli.testing.programs import Ports
from tidings_cli.testing.serving import Served

PICKUP_CODE = "7K2QM"
START = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)

# Stage, message, what is next, and the fact of the timeline with its words: as tracking tells them.
COMMON = (
    (
        "paid",
        "Your payment went through.",
        "We tell the kitchen.",
        "payments.paymentAuthorised",
        "€19.80 are reserved.",
    ),
    (
        "confirmed",
        "Your order is confirmed.",
        "The kitchen starts.",
        "orders.orderConfirmed",
        "We confirmed the order.",
    ),
    ("preparing", "The kitchen is making it.", "The oven.", "kitchen.preparationStarted", "The kitchen started."),
    ("baking", "Your order is in the oven.", "We check it.", "kitchen.pizzaPrepared", "It went into the oven."),
    ("baking", "Your order is in the oven.", "We check it.", "kitchen.pizzaBaked", "It came out of the oven."),
    ("checked", "It has passed our check.", "Into its box.", "kitchen.qualityChecked", "It passed our check."),
    ("boxed", "Your order is in its box.", "It leaves the kitchen.", "kitchen.pizzaBoxed", "It is in its box."),
)
WAYS = {
    "pickup": (
        *COMMON,
        ("shelved", "Ready to be picked up.", "Come while it is hot.", "pickup.orderShelved", "It waits on shelf A3."),
        ("collected", "You have your order.", None, "pickup.orderCollected", "You collected it."),
        ("completed", "All done. Enjoy!", None, "orders.orderCompleted", "The order is complete."),
    ),
    "delivery": (
        *COMMON,
        ("driverAssigned", "A driver is coming.", "Dan sets off.", "delivery.driverAssigned", "Dan will bring it."),
        ("outForDelivery", "It is on its way to you.", "The bell.", "delivery.orderCollected", "The driver set off."),
        ("delivered", "Your order was delivered.", None, "delivery.orderDelivered", "It was delivered."),
        ("completed", "All done. Enjoy!", None, "orders.orderCompleted", "The order is complete."),
    ),
}


class Pizzeria:
    """Menu, orders and tracking in one application, served on three ports."""

    def __init__(self, ports: Ports) -> None:
        self.menu = [
            {**msgspec.to_builtins(recipe), "currency": "EUR", "available": True, "missingIngredients": []}
            for recipe in initial_recipes()
        ]
        self.orders: dict[str, dict[str, Any]] = {}
        self.tracked: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, str] = {}
        self.sent: list[tuple[str | None, dict[str, Any]]] = []
        self.resumed: list[str | None] = []
        self.refusal: tuple[int, str] | None = None
        self.forgetful = False
        self.closing = False
        self._changed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        app = self._application()
        self.services = {name: Served(app, ports.take()) for name in ("orders", "menu", "tracking")}
        urls: dict[str, Any] = {f"{name}_url": service.url for name, service in self.services.items()}
        self.page = Served(application(StorefrontSettings(**urls, patience=20.0)), ports.take())

    @property
    def url(self) -> str:
        """Return the URL of the page."""
        return self.page.url

    async def start(self) -> None:
        """Start all servers."""
        for server in (*self.services.values(), self.page):
            await server.start()

    async def stop(self) -> None:
        """Stop all servers."""
        self._close()
        for server in (*self.services.values(), self.page):
            await server.stop()

    def _close(self) -> None:
        """End all streams."""
        self.closing = True
        for event in self._changed.values():
            event.set()

    async def away(self, name: str) -> None:
        """Let a service go away; tracking's streams go with it."""
        if name == "tracking":
            self._close()
        await self.services[name].stop()

    async def back(self, name: str) -> None:
        """Start the service again."""
        self.closing = False
        self._changed.clear()
        await self.services[name].start()

    def item(self, sku: str) -> dict[str, Any]:
        """Return a pizza of the menu."""
        return next(item for item in self.menu if item["sku"] == sku)

    def sell_out(self, sku: str, *missing: str) -> None:
        """Mark a pizza as sold out."""
        self.item(sku).update(available=False, missingIngredients=list(missing))

    def go_on(self, order_id: str, stages: int = 1) -> str:
        """Publish the next facts of an order; return its stage."""
        order = self.tracked[order_id]
        for _ in range(stages):
            fact = WAYS[order["fulfilment"]][len(order["timeline"]) - 1]
            self.publish_fact(order_id, *fact)
        return str(order["stage"])

    def cancel(self, order_id: str, reason: str, message: str, following: str) -> None:
        """Cancel an order."""
        self.orders[order_id].update(
            status="cancelled", cancellation={"reason": reason, "stage": "placed", "at": self._now(order_id)}
        )
        self.publish_fact(
            order_id, "cancelled", message, following, "orders.orderCancelled", "The order was cancelled.", reason
        )

    def publish_fact(
        self, order_id: str, stage: str, message: str, following: str | None, kind: str, words: str, reason: str = ""
    ) -> None:
        """Publish a fact of tracking."""
        order = self.tracked[order_id]
        now = self._now(order_id)
        number = len(order["timeline"])
        order["timeline"].append(
            {"id": f"{order_id}-{number}", "type": kind, "version": 1, "time": now, "words": words}
            | {"source": kind.partition(".")[0]}
        )
        order |= {"stage": stage, "message": message, "next": following, "updatedAt": now, "reason": reason or None}
        order["finished"] = stage in ("completed", "cancelled")
        order["pickupCode"] = PICKUP_CODE if stage == "shelved" else None
        for watched in (order_id, ""):
            self._changed.pop(watched, asyncio.Event()).set()

    def add(self, order_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Add an order."""
        named = [(self.item(line["sku"]), line["quantity"]) for line in body["lines"]]
        lines = [
            {"sku": item["sku"], "name": item["name"], "quantity": quantity, "unitPriceCents": item["priceCents"]}
            for item, quantity in named
        ]
        total = sum(line["quantity"] * line["unitPriceCents"] for line in lines)
        both = {"orderId": order_id, "fulfilment": body["fulfilment"], "totalCents": total, "lines": lines}
        nothing_yet = dict.fromkeys(("confirmedAt", "completedAt", "givenAwayAt", "cancellation"))
        self.orders[order_id] = {
            **both,
            "status": "placed",
            "customer": body["customer"],
            "address": body.get("address"),
            "placedAt": START.isoformat(),
            **nothing_yet,
        }
        self.tracked[order_id] = {**both, "timeline": []}
        published = f"You ordered for €{total / 100:.2f}."
        self.publish_fact(
            order_id, "placed", "We have your order.", "Your card is asked.", "orders.orderPlaced", published
        )
        return self.orders[order_id]

    def _now(self, order_id: str) -> str:
        steps = len(self.tracked[order_id]["timeline"])
        return (START + timedelta(seconds=steps * 47 + int(order_id[-2:], 16))).isoformat()

    def _application(self) -> FastAPI:
        app = FastAPI()
        problems.install(app)
        app.add_api_route("/menu", self._menu)
        app.add_api_route("/orders", self._place, methods=["POST"], status_code=202)
        app.add_api_route("/orders/{order_id}", self._look)
        app.add_api_route("/orders/{order_id}/cancel", self._cancel, methods=["POST"])
        app.add_api_route("/track", self._latest)
        app.add_api_route("/totals", self._totals)
        app.add_api_route("/track/{order_id}", self._track)
        app.add_api_route("/track/{order_id}/stream", self._stream)
        app.add_api_route("/stream", self._stream_all)
        return app

    async def _menu(self) -> dict[str, Any]:
        return {"items": self.menu}

    async def _place(self, request: Request, idempotency_key: Annotated[str, Header()]) -> Any:
        body = json.loads(await request.body())
        self.sent.append((idempotency_key, body))
        if self.refusal:
            return problems.problem(*self.refusal)
        order_id = self.keys.setdefault(idempotency_key, f"0193f0c4-6a2e-7c1b-9c52-{len(self.orders) + 4096:012x}")
        order = self.orders.get(order_id) or self.add(order_id, body)
        if self.forgetful:
            self.forgetful = False
            raise RuntimeError("placed, but the answer is lost")
        return {name: order[name] for name in ("orderId", "status", "totalCents")}

    async def _look(self, order_id: str) -> Any:
        return self.orders.get(order_id) or problems.problem(404, f"there is no order {order_id}")

    async def _cancel(self, order_id: str) -> Any:
        if self.refusal:
            return problems.problem(*self.refusal)
        words = "Your order was cancelled, as you wished.", "What you have paid is given back."
        self.cancel(order_id, "customerCancelled", *words)
        return self.orders[order_id]

    async def _latest(self) -> Any:
        return {"orders": [self._summary(order) for order in self.tracked.values()]}

    async def _totals(self) -> Any:
        stages = [order["stage"] for order in self.tracked.values()]
        done = [order for order in self.tracked.values() if order["stage"] == "completed"]
        cancelled = stages.count("cancelled")
        earned = sum(order["totalCents"] for order in done)
        open_ = len(stages) - len(done) - cancelled
        return {"open": open_, "done": len(done), "cancelled": cancelled, "earnedCents": earned}

    async def _track(self, order_id: str) -> Any:
        return self.tracked.get(order_id) or problems.problem(404, f"nothing is known of order {order_id} yet")

    async def _stream(self, order_id: str, last_event_id: Annotated[str | None, Header()] = None) -> StreamingResponse:
        self.resumed.append(last_event_id)
        return StreamingResponse(self._changes(order_id, int(last_event_id or 0)), media_type="text/event-stream")

    async def _stream_all(self) -> StreamingResponse:
        return StreamingResponse(self._all_changes(), media_type="text/event-stream")

    def _summary(self, order: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in order.items() if name not in ("timeline", "pickupCode")}

    async def _changes(self, order_id: str, seen: int) -> AsyncIterator[str]:
        yield ": welcome\n\n"
        while not self.closing:
            order = self.tracked.get(order_id)
            if order and len(order["timeline"]) > seen:
                seen = len(order["timeline"])
                yield f"event: order\nid: {seen}\ndata: {json.dumps(order)}\n\n"
            await self._changed[order_id].wait()

    async def _all_changes(self) -> AsyncIterator[str]:
        yield ": welcome\n\n"
        seen = {order_id: len(order["timeline"]) for order_id, order in self.tracked.items()}
        while not self.closing:
            await self._changed[""].wait()
            for order_id, order in self.tracked.items():
                if len(order["timeline"]) > seen.get(order_id, 0):
                    seen[order_id] = len(order["timeline"])
                    yield f"event: order\ndata: {json.dumps(self._summary(order))}\n\n"
