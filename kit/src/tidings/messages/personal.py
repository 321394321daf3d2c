"""Personal data in events: marks on fields.

    class Customer(Event):
        customer_id: Annotated[str, SUBJECT]
        name: Annotated[str, PERSONAL]

The marks become `x-data-subject` and `x-data-classification` in the JSON Schema of the event. In a pydantic model,
write them as `Field(json_schema_extra=PERSONAL.extra_json_schema)`.
"""

from __future__ import annotations

import msgspec

CLASSIFICATION = "x-data-classification"
DATA_SUBJECT = "x-data-subject"

PERSONAL = msgspec.Meta(extra_json_schema={CLASSIFICATION: {"category": "PII"}})
"""Marks a string as personal data of the event's subject."""
SUBJECT = msgspec.Meta(extra_json_schema={DATA_SUBJECT: True})
"""Marks the one string that identifies the person, by a pseudonym that remains after the person is forgotten."""
