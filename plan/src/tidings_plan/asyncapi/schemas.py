"""JSON Schemas of events (2020-12) as AsyncAPI 3.0 takes them: its own dialect, a superset of draft-07."""

import re
from collections.abc import Mapping
from typing import Any

_FORBIDDEN = re.compile(r"[^A-Za-z0-9._-]+")
_DROPPED = ("$schema", "$id", "$defs", "definitions")
_OF_SCHEMAS = ("properties", "patternProperties", "dependentSchemas")


def component_name(text: str) -> str:
    """Return a key that `components` may have: letters, digits, '.', '_' and '-'."""
    return _FORBIDDEN.sub("_", text)


def components(label: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema and each of its definitions under names of their own, with references that fit.

    Within one document, `#/$defs/Line` would point to the document's own root: every definition becomes
    `<label>.Line`.
    """
    result = {component_name(label): _fitted(schema, label)}
    for place in ("$defs", "definitions"):
        for name, definition in schema.get(place, {}).items():
            result[component_name(f"{label}.{name}")] = _fitted(definition, label)
    return result


def reference(name: str) -> dict[str, str]:
    """Refer to a component's schema."""
    return {"$ref": f"#/components/schemas/{component_name(name)}"}


def _fitted(schema: Any, label: str) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    fitted = {name: _value(name, value, label) for name, value in schema.items() if name not in _DROPPED}
    if "prefixItems" in fitted:  # draft-07's way to say it
        rest = fitted.pop("items", None)
        fitted["items"] = fitted.pop("prefixItems")
        if rest is not None:
            fitted["additionalItems"] = rest
    if "$ref" not in fitted:
        return fitted
    # Draft-07 does not look at what stands beside a reference.
    target = {"$ref": _moved(fitted.pop("$ref"), label)}
    return {**fitted, "allOf": [target, *fitted.get("allOf", [])]} if fitted else target


def _value(name: str, value: Any, label: str) -> Any:
    if name in ("const", "enum", "default", "examples", "required"):
        return value
    if name in _OF_SCHEMAS and isinstance(value, Mapping):
        return {key: _fitted(item, label) for key, item in value.items()}
    if isinstance(value, list):
        return [_fitted(item, label) for item in value]
    return _fitted(value, label)


def _moved(target: str, label: str) -> str:
    """Say where a local reference points to in the document; one to elsewhere stays."""
    if not target.startswith("#"):
        return target
    steps = target.removeprefix("#").strip("/").split("/") if target != "#" else []
    if len(steps) > 1 and steps[0] in ("$defs", "definitions"):
        name = steps[1].replace("~1", "/").replace("~0", "~")
        return "/".join([reference(f"{label}.{name}")["$ref"], *steps[2:]])
    return "/".join([reference(label)["$ref"], *steps])
