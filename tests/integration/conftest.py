"""Real programs for every integration test."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tidings.testing.conformance")

from tidings.testing.fixtures import daprd, nats, ports, postgres, redis, serve  # noqa: E402

__all__ = ["daprd", "nats", "ports", "postgres", "redis", "serve"]
