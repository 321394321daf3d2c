"""The storefront's settings."""

from typing import Any

import pytest

from storefront.settings import StorefrontSettings


@pytest.mark.parametrize("field", ["orders_url", "menu_url", "tracking_url"])
def test_an_address_that_is_none_is_reported_at_the_start(field: str) -> None:
    wrong: dict[str, Any] = {field: "localhost:8001"}
    with pytest.raises(ValueError, match=field):
        StorefrontSettings(**wrong)
