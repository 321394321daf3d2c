from __future__ import annotations

import pytest
from tests.support.livecluster import Refused, chosen, load


@pytest.mark.parametrize(
    ("named", "current", "found"),
    [("current", "kind-tidings", "kind-tidings"), ("eu-1", "kind-tidings", "eu-1"), ("eu-1", "eu-1", "eu-1")],
)
def test_the_cluster_is_kind_or_named(named: str, current: str, found: str) -> None:
    assert chosen(named, current) == found


@pytest.mark.parametrize("current", ["production", "minikube", "not-kind-x", ""])
def test_nothing_is_done_to_a_cluster_that_nobody_has_named(current: str) -> None:
    with pytest.raises(Refused, match=f"make e2e CONTEXT={current}"):
        chosen("current", current)


def test_images_are_loaded_into_kind_only() -> None:
    with pytest.raises(Refused, match="REPOSITORY"):
        load("production", "an-image")
