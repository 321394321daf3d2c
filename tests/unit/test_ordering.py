"""Files with long tests are started first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from tests.support.ordering import longest_first


@dataclass
class Fake:
    path: Path
    name: str
    limit: float | None = None

    def get_closest_marker(self, _name: str) -> pytest.Mark | None:
        return pytest.mark.timeout(self.limit).mark if self.limit else None


def test_files_with_a_long_time_limit_come_first_and_then_those_with_many_tests() -> None:
    few, many, long = Path("test_a.py"), Path("test_b.py"), Path("test_z.py")
    items = [Fake(few, "only"), Fake(many, "one"), Fake(many, "two"), Fake(long, "short"), Fake(long, "long", 400)]
    ordered = longest_first(cast("list[pytest.Item]", items))
    assert [item.name for item in ordered] == ["short", "long", "one", "two", "only"]
