"""Validate the JSON Schemas of two versions of an event and compare them."""

from tidings_plan.jsonschema.comparison import problems
from tidings_plan.jsonschema.document import Fault, faults, is_changed
from tidings_plan.jsonschema.problem import Problem

__all__ = ["Fault", "Problem", "faults", "is_changed", "problems"]
