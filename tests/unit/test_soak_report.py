"""The soak test's report of a run, and its completeness."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenarios.soak import Progressed, keep, read


@pytest.mark.parametrize(
    ("actual", "problems"),
    [
        (Progressed(parcels=3, received=300, memory={"service": [100, 120, 100, 110, 120, 124]}), []),
        (Progressed(parcels=3, received=299, lost=["1/7"]), ["lost 1/7"]),
        (Progressed(parcels=3, received=301, doubled=["2/9"]), ["doubled 2/9"]),
        (
            Progressed(memory={"service": [100, 100, 100, 130, 130, 130], "sidecar": [70, 90]}),
            ["memory of every service x1.30", "memory of every sidecar x1.29"],
        ),
    ],
)
def test_what_must_not_be_is_named(actual: Progressed, problems: list[str], tmp_path: Path) -> None:
    assert actual.problems == problems
    assert actual.report()["problems"] == problems
    assert actual.report()["sent"] == actual.parcels * 100
    assert read(tmp_path / "soak.json") == Progressed()
    keep(tmp_path / "soak.json", actual)
    assert read(tmp_path / "soak.json") == actual
    assert [path.name for path in tmp_path.iterdir()] == ["soak.json"]
