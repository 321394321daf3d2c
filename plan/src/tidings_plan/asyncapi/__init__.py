"""An AsyncAPI 3.0 document of a system, from its EventTypes and its plan. Pure: data in, data out."""

from tidings_plan.asyncapi.document import document

__all__ = ["document"]
