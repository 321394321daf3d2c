"""Compare the JSON Schemas of two versions of an event, after checking that they are JSON Schemas at all."""

from tidings.plan.jsonschema.comparison import problems
from tidings.plan.jsonschema.document import Fault, faults, is_changed
from tidings.plan.jsonschema.problem import Problem

__all__ = ["Fault", "Problem", "faults", "is_changed", "problems"]
