"""The page's files as they are, and the settings."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from storefront.adapters.page import HEADERS, STATIC
from storefront.settings import StorefrontSettings


def test_the_policy_allows_nothing_inline_and_no_other_origin() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert policy.startswith("default-src 'none'")


def test_the_page_is_complete_and_makes_no_external_requests() -> None:
    index = (Path(STATIC) / "index.html").read_text()
    for file in Path(STATIC).rglob("*.*"):
        text = file.read_text()
        strangers = [word for word in text.split() if "://" in word and "www.w3.org" not in word]
        assert strangers == [], file
        assert "style=" not in text, file
        assert "innerHTML" not in text, file
    assert "<style" not in index
    assert 'href="/assets/icon.svg"' in index


def test_the_whole_page_is_light() -> None:
    files = [file for file in Path(STATIC).rglob("*.*") if file.is_file()]
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) < 60_000


@pytest.mark.parametrize("field", ["orders_url", "menu_url", "tracking_url"])
def test_an_address_that_is_none_is_reported_at_the_start(field: str) -> None:
    wrong: dict[str, Any] = {field: "localhost:8001"}
    with pytest.raises(ValueError, match=field):
        StorefrontSettings(**wrong)
