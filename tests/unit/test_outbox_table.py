"""The table outbox on SQLite; on PostgreSQL: tests/integration/test_outbox_table_postgres.py."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("tidings.testing.conformance")

from tidings.testing.conformance.table import TableConformance  # noqa: E402


class TestTableOnSqlite(TableConformance):
    @pytest.fixture
    def database_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/shop.db"
