"""Marks for personal data in events and documents. Domain code may import this module: it declares and does nothing.

    class Customer(Event):
        customer_id: Annotated[str, SUBJECT]
        name: Annotated[str, PERSONAL]

`tidings.messages.personal` describes their effect.
"""

import msgspec

CLASSIFICATION = "x-data-classification"
DATA_SUBJECT = "x-data-subject"

PERSONAL = msgspec.Meta(extra_json_schema={CLASSIFICATION: {"category": "PII"}})
"""Marks a string as personal data of its subject."""
SUBJECT = msgspec.Meta(extra_json_schema={DATA_SUBJECT: True})
"""Marks the string that identifies the person, by a pseudonym that remains after the person is forgotten."""
