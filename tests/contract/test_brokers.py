"""Every broker is listed in all four places that name brokers."""

import re
from pathlib import Path

import msgspec
import yaml

from tidings_cli.up import backends
from tidings_plan.resources import brokers

ROOT = Path(__file__).parents[2]
COMPONENTS = {path.parent.name: path for path in ROOT.glob("components/*/pubsub.yaml")}


def test_every_broker_is_known_to_the_plan_the_local_run_and_the_chart() -> None:
    types = {name: next(yaml.safe_load_all(path.read_text()))["spec"]["type"] for name, path in COMPONENTS.items()}
    assert set(types.values()) <= brokers.BROKERS.keys()
    assert COMPONENTS.keys() == backends.BROKERS.keys()
    values = (ROOT / "charts/pizza/values.yaml").read_text()
    allowed = re.search(r'@schema \{"enum": (\[[^]]*\])\}\n  kind: nats', values)
    assert allowed is not None
    assert set(msgspec.json.decode(allowed[1])) == COMPONENTS.keys()
