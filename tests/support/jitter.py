"""Let the event loop stall at random, as on a busy machine: finds tests that depend on speed in one run.

pytest -p tests.support.jitter tests/unit
JITTER_CHANCE (0.02) is the share of the loop's turns that stall, JITTER_SECONDS (0.4) the longest stall, and
JITTER_SEED (1) makes a run repeatable.
"""

from __future__ import annotations

import os
import random
import time
from asyncio import base_events
from typing import Any

_chance = float(os.environ.get("JITTER_CHANCE", "0.02"))
_seconds = float(os.environ.get("JITTER_SECONDS", "0.4"))
_random = random.Random(int(os.environ.get("JITTER_SEED", "1")))
_loop: Any = base_events.BaseEventLoop
_turn = _loop._run_once


def _slow_turn(loop: Any) -> None:
    if _random.random() < _chance:
        time.sleep(_random.uniform(0, _seconds))
    _turn(loop)


_loop._run_once = _slow_turn
