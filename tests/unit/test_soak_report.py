"""What the soak says of a run, and that it is kept whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenarios.soak import Progressed, keep, read


@pytest.mark.parametrize(
    ("found", "problems"),
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
def test_what_must_not_be_is_named(found: Progressed, problems: list[str], tmp_path: Path) -> None:
    assert found.problems == problems
    assert found.report()["problems"] == problems
    assert found.report()["sent"] == found.parcels * 100
    assert read(tmp_path / "soak.json") == Progressed()
    keep(tmp_path / "soak.json", found)
    assert read(tmp_path / "soak.json") == found
    assert [each.name for each in tmp_path.iterdir()] == ["soak.json"]
