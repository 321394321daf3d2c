"""Generate the charts' copies of what the repository defines elsewhere: `make charts`.

- tidings/files/{crds,rbac,webhooks,policies}.yaml  from operator/manifests
- pizza/files/contracts/<service>.yaml    from the contracts folders, schemas and examples inline
- tidings/files/contracts/archive.yaml    the same for the archive
- <chart>/files/values.yaml               the default values
- <chart>/files/components/<set>.yaml     from components/
- pizza/files/plan.json                   the plan of all contracts: topics and who may read and publish them
- <chart>/README.md, values.schema.json   from <chart>/values.yaml and <chart>/README.head.md
- ../skaffold.yaml                        its marked sections, from the folders in services/

A chart is packaged without the rest of the repository, so it cannot look outside its own folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tidings.brokers.jetstream import stream_name
from tidings_plan import Plan, plan
from tidings_plan.resources import contracts_folders, load

CHARTS = Path(__file__).resolve().parent
ROOT = CHARTS.parent
MANIFESTS = ("crds.yaml", "rbac.yaml", "webhooks.yaml", "policies.yaml")
BROKERS = tuple(sorted(path.parent.name for path in ROOT.glob("components/*/pubsub.yaml")))
STATES = ("state-redis", "state-postgres")
MADE = "# Made by `make charts`; do not edit.\n"


def expected() -> dict[Path, str]:
    """Every file that this program writes, and its text."""
    pizza = CHARTS / "pizza"
    files = {CHARTS / f"tidings/files/{name}": (ROOT / "operator/manifests" / name).read_text() for name in MANIFESTS}
    for contracts in contracts_folders(ROOT):
        chart = CHARTS / "tidings" if contracts.parent.name == "archive" else pizza
        files[chart / f"files/contracts/{contracts.parent.name}.yaml"] = MADE + _dump(list(_contracts(contracts)))
    for name in (*BROKERS, *STATES):
        (component,) = (ROOT / "components" / name).glob("*.yaml")
        for chart in (pizza, CHARTS / "tidings") if name in BROKERS else (pizza,):
            files[chart / f"files/components/{name}.yaml"] = component.read_text()
    inventory = load(contracts_folders(ROOT))
    whole = plan(inventory)
    files[pizza / "files/plan.json"] = _json(planned(whole))
    files[ROOT / "skaffold.yaml"] = skaffold((ROOT / "skaffold.yaml").read_text(), services())
    for chart in (pizza, CHARTS / "tidings"):
        files[chart / "files/values.yaml"] = MADE + _dump([yaml.safe_load((chart / "values.yaml").read_text())])
        values = read_values((chart / "values.yaml").read_text())
        files[chart / "values.schema.json"] = _json(schema(values))
        files[chart / "README.md"] = (chart / "README.head.md").read_text() + table(values)
    return files


def _json(document: Any) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


class _Dumper(yaml.SafeDumper):
    """Writes no anchors: a contract is read by itself."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _dump(documents: list[Any]) -> str:
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


# --- skaffold ---

ARTIFACT = """\
    - image: plant-based-pizza/{name}
      docker: {{dockerfile: images/service.Dockerfile, network: host, buildArgs: {{SERVICE: {name}, OWNER: "10001"}}}}
      sync:
        manual:
          - {{src: kit/src/tidings/**/*.py, dest: /app, strip: kit/src}}
          - {{src: services/{name}/src/**/*.py, dest: /app, strip: services/{name}/src}}
"""
OVERRIDE = '          image.overrides.{name}: "{{{{.IMAGE_FULLY_QUALIFIED_plant_based_pizza_{name}}}}}"\n'
DEBUGGER = '      - {{op: add, path: /build/artifacts/{index}/docker/buildArgs/DEBUGGER, value: "1"}}\n'
FORWARD = """\
      - {{op: add, path: /portForward/-, value: {{resourceType: deployment, resourceName: {name}, \
namespace: pizza, port: 5678, localPort: {debug_port}}}}}
"""
OTHER_ARTIFACTS = 3  # operator, simulators and archive, which precede the services


def services() -> list[str]:
    """Return the names of all folders in services/."""
    return sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))


def skaffold(text: str, names: list[str]) -> str:
    """Return the text of skaffold.yaml with each of its marked sections written for these services."""
    fixed = {each["name"]: each.get("port") for each in yaml.safe_load((ROOT / "tidings.yaml").read_text())["services"]}
    sections = iter((ARTIFACT, OVERRIDE, DEBUGGER, FORWARD))

    def section(marked: re.Match[str]) -> str:
        line = next(sections)
        # The debugger's port has the last two digits of the service's: 8001 becomes 5701.
        lines = (
            line.format(
                name=name, index=OTHER_ARTIFACTS + index, debug_port=5700 + (fixed.get(name) or 50 + index) % 100
            )
            for index, name in enumerate(names)
        )
        return marked[1] + "".join(lines) + marked[2]

    return re.sub(r"( *# <services>[^\n]*\n).*?( *# </services>\n)", section, text, flags=re.DOTALL)


# --- contracts ---


def _contracts(folder: Path) -> Iterator[dict[str, Any]]:
    """Every EventType and EventSubscription of a service, with files beside it put inline."""
    for file in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            # A date becomes a text again: Kubernetes' JSON has no dates.
            resource = json.loads(json.dumps(document, default=str))
            for version in resource["spec"].get("versions", ()) if resource["kind"] == "EventType" else ():
                _inline(version, folder)
            yield resource


def _inline(version: dict[str, Any], folder: Path) -> None:
    if isinstance(version.get("schema"), str):
        version["schema"] = json.loads((folder / version["schema"]).read_text())
    if "examples" in version:
        version["examples"] = [
            json.loads((folder / each).read_text()) if isinstance(each, str) else each for each in version["examples"]
        ]


def planned(whole: Plan) -> dict[str, Any]:
    """What the templates need of the plan: topics, their streams, and each app's rights."""
    return {
        "topics": list(whole.topics),
        "streams": {topic: stream_name(topic) for topic in whole.topics},
        "apps": {
            name: {"publish": list(app.publishes.get("pubsub", ())), "subscribe": list(app.reads.get("pubsub", ()))}
            for name, app in sorted(whole.apps.items())
        },
    }


# --- values ---

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_][\w-]*):(?: |$)")
OPEN = "additionalProperties"


class Value:
    """A key of values.yaml: its default, what its comment says, and what `@schema` adds."""

    def __init__(self, default: Any, text: str, more: Mapping[str, Any]) -> None:
        self.default, self.text, self.more = default, text, more
        self.below: dict[str, Value] = {}

    @property
    def is_group(self) -> bool:
        """Whether its keys are described one by one; a map with `additionalProperties` is one value."""
        return isinstance(self.default, dict) and bool(self.default) and OPEN not in self.more


def read_values(text: str) -> dict[str, Value]:
    """Read the values with their comments; the keys of a map that is one value are left to it."""
    found: dict[str, Value] = {}
    defaults = yaml.safe_load(text)
    comments = _comments(text)

    def walk(node: dict[str, Any], path: tuple[str, ...], into: dict[str, Value]) -> None:
        for key, default in node.items():
            words, more = comments.get((*path, key), ("", {}))
            into[key] = value = Value(default, words, more)
            if value.is_group:
                walk(default, (*path, key), value.below)

    walk(defaults, (), found)
    return found


def _comments(text: str) -> dict[tuple[str, ...], tuple[str, dict[str, Any]]]:
    """Return the comment right above each key, by the key's path."""
    found: dict[tuple[str, ...], tuple[str, dict[str, Any]]] = {}
    path: list[tuple[int, str]] = []
    words: list[str] = []
    more: dict[str, Any] = {}
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("# @schema "):
            more.update(json.loads(bare.removeprefix("# @schema ")))
        elif bare.startswith("#"):
            words.append(bare.removeprefix("#").strip())
        elif key := _KEY.match(line):
            indent = len(key["indent"])
            path = [*((depth, name) for depth, name in path if depth < indent), (indent, key["key"])]
            found[tuple(name for _, name in path)] = (" ".join(words), more)
            words, more = [], {}
        else:
            words, more = [], {}
    return found


_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
_SERVICE: dict[str, Any] = {
    "type": ["object", "null"],
    OPEN: False,
    "properties": {
        "enabled": {"type": "boolean"},
        "sidecar": {"type": "boolean"},
        "public": {"type": "boolean"},
        "replicas": {"type": "integer", "minimum": 0},
        "resources": {"type": "object"},
        "sidecarResources": {"type": "object"},
        "logLevel": {"enum": ["DEBUG", "INFO", "WARNING", "ERROR"]},
        "environment": {"type": "object", OPEN: {"type": ["string", "number", "boolean"]}},
        "environmentFrom": {"type": "array", "items": {"type": "string"}},
        "database": {"enum": ["sqlite", "external"]},
        "volume": {"type": "object", OPEN: False, "properties": {"size": {"type": "string"}}},
        "autoscaling": {"$ref": "#/properties/autoscaling"},
        "ingressFrom": {"type": "array", "items": {"type": "string"}},
        "podLabels": {"type": "object", OPEN: {"type": "string"}},
        "nodeSelector": {"type": "object", OPEN: {"type": "string"}},
        "tolerations": {"type": "array", "items": {"type": "object"}},
    },
}


def schema(values: Mapping[str, Value]) -> dict[str, Any]:
    """Return the JSON Schema of the values; an unknown key is refused."""
    head: dict[str, Any] = {"$schema": "http://json-schema.org/draft-07/schema#"}
    if "services" in values:
        head["definitions"] = {"service": _SERVICE}
    # A parent chart may give both: `global` is Helm's own, `enabled` what its condition for this chart looks at.
    parent = {"global": {"type": "object"}, "enabled": {"type": "boolean"}}
    body = _object(values)
    return {**head, **body, "properties": {**body["properties"], **parent}}


def _object(values: Mapping[str, Value]) -> dict[str, Any]:
    return {"type": "object", OPEN: False, "properties": {key: _one(value) for key, value in values.items()}}


def _one(value: Value) -> dict[str, Any]:
    text = {"description": value.text} if value.text else {}
    if value.is_group:
        return {**_object(value.below), **text}
    return {"type": _TYPES[type(value.default)], **text, **value.more}


def table(values: Mapping[str, Value]) -> str:
    """Return the table of all values for a README."""
    rows = ["| value | default | |", "| --- | --- | --- |"]
    for path, value in _leaves(values, ()):
        default = json.dumps(value.default, ensure_ascii=False)
        shown = default if len(default) <= LONG else "see values.yaml"
        words = value.text.replace("|", "\\|")
        choice = f" One of {', '.join(value.more['enum'])}." if "enum" in value.more else ""
        rows.append(f"| `{'.'.join(path)}` | `{shown}` | {(words + choice).strip()} |")
    return "\n".join(rows) + "\n"


LONG = 60
"""Characters of a default that a table still shows."""


def _leaves(values: Mapping[str, Value], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Value]]:
    for key, value in values.items():
        if value.is_group:
            yield from _leaves(value.below, (*path, key))
        else:
            yield (*path, key), value


# --- the program ---


def drifted() -> list[Path]:
    """Files that are not as they should be, or should not be there at all."""
    wanted = expected()
    kept = [*CHARTS.glob("*/files/**/*.yaml")]
    surplus = [path for path in kept if path not in wanted]
    return surplus + [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]


def main() -> None:
    """Write what has drifted, and remove what should not be there."""
    wanted = expected()
    for path in drifted():
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
        else:
            path.unlink()


if __name__ == "__main__":
    main()
