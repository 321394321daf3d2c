"""A service as Dapr's users write one, with dapr-ext-fastapi and without Tidings: registers and greets customers."""

import json
import os
import uuid
from pathlib import Path
from typing import Annotated, Any

from dapr.clients import DaprClient
from dapr.ext.fastapi import DaprApp
from fastapi import Body, FastAPI, HTTPException

DATA = Path(os.environ.get("DATA", "/data"))
app = FastAPI()
dapr_app = DaprApp(app)


@app.post("/register/{customer}")
def register(customer: str) -> None:
    """Publish a customer as Dapr wraps it: with its own type, and without a version."""
    with DaprClient() as client:
        data = json.dumps({"customerId": customer})
        client.publish_event("pubsub", "customers", data, data_content_type="application/json")


@app.post("/customers")
def greet(event: Annotated[dict[str, Any], Body()]) -> None:
    """Store a customer, unless the file `broken` exists; its Subscription is a resource of the cluster."""
    if (DATA / "broken").exists():
        raise HTTPException(500, "no customer can be stored")
    (DATA / "customers").mkdir(exist_ok=True)
    (DATA / "customers" / f"{event['data']['customerId']}-{uuid.uuid4()}").touch()


@dapr_app.subscribe("pubsub", "tidings.subjectForgotten.v1", route="/forget")
def forget(event: Annotated[dict[str, Any], Body()]) -> None:
    """Delete a customer."""
    for file in (DATA / "customers").glob(f"{event['data']['person']}-*"):
        file.unlink()


@app.get("/customers")
def customers() -> list[str]:
    """List the customers, each as often as it was stored."""
    return sorted(file.name.partition("-")[0] for file in (DATA / "customers").glob("*"))
