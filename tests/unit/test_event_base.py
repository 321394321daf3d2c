"""Properties that classes inherit from the base class `Event`."""

import msgspec
import pytest

from tidings import Event, event


@event("menu.priceChanged", subject="sku")
class PriceChanged(Event):
    currency: str = "EUR"
    sku: str
    price_cents: int


def test_event_fields_are_keyword_only_so_that_a_required_one_may_follow_an_optional_one() -> None:
    changed = PriceChanged(sku="margherita", price_cents=990)
    assert msgspec.json.encode(changed) == b'{"currency":"EUR","sku":"margherita","priceCents":990}'
    with pytest.raises(TypeError, match="positional"):
        PriceChanged("EUR", "margherita", 990)  # type: ignore[call-arg]


def test_an_event_does_not_change() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        PriceChanged(sku="margherita", price_cents=990).sku = "diavola"  # type: ignore[misc]
