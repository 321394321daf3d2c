"""The services behind the page: where each is, and what its absence means to a customer."""

from __future__ import annotations

from dataclasses import dataclass

from storefront.settings import StorefrontSettings


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service that requests are passed on to.

    Attributes:
        absence: What does not work without it and what does all the same, in words that a customer can be shown.

    """

    name: str
    url: str
    absence: str


@dataclass(frozen=True, slots=True)
class Upstreams:
    """All services that the page uses."""

    orders: Upstream
    menu: Upstream
    tracking: Upstream

    @classmethod
    def of(cls, settings: StorefrontSettings) -> Upstreams:
        """Return the services at the configured addresses."""
        return cls(
            orders=Upstream(
                "orders",
                settings.orders_url.rstrip("/"),
                "New orders cannot be taken at the moment; existing orders are not affected.",
            ),
            menu=Upstream(
                "menu",
                settings.menu_url.rstrip("/"),
                "The menu cannot be shown at the moment; ordering still works.",
            ),
            tracking=Upstream(
                "tracking",
                settings.tracking_url.rstrip("/"),
                "Live progress cannot be shown at the moment; ordering still works.",
            ),
        )
