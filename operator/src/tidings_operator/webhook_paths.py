"""The webhooks' paths, which contain a secret that identifies the API server.

The API server presents a client certificate only if its administrator has configured one, and any pod can connect to
the webhooks. The webhook configurations, however, are readable by cluster administrators only. Therefore the operator
writes a random path into them and responds at no other path. Because a path can leak through error messages about an
unavailable webhook, it is replaced daily and at each start of an operator.
"""

import hmac
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Any
from urllib.parse import urlsplit

GRACE = 60.0
"""Seconds for which a replaced path is accepted, until every API server has observed the next one."""
ACTIONS: Mapping[str, str] = {"ValidatingWebhookConfiguration": "validate", "MutatingWebhookConfiguration": "default"}
PLAIN = frozenset(f"/{action}" for action in ACTIONS.values())


class Paths:
    """The accepted paths: those in the configurations, now or recently."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._current: frozenset[str] = frozenset()
        self._replaced: dict[str, float] = {}

    def observe(self, configurations: Iterable[Mapping[str, Any]]) -> None:
        """Update the paths from the configurations."""
        webhooks = [webhook for configuration in configurations for webhook in configuration.get("webhooks") or ()]
        named = frozenset(filter(None, (path_of(webhook["clientConfig"]) for webhook in webhooks)))
        now = self._clock()
        self._replaced = {path: since for path, since in self._replaced.items() if now - since < GRACE}
        self._replaced |= dict.fromkeys(self._current - named, now)
        self._current = named

    def admits(self, path: str) -> bool:
        """Return True for a path that the API server has been configured with."""
        now, asked = self._clock(), path.encode(errors="surrogateescape")
        known = {*self._current, *(path for path, since in self._replaced.items() if now - since < GRACE)}
        return any(hmac.compare_digest(asked, item.encode()) for item in known)


def path_of(client: Mapping[str, Any]) -> str:
    """Return the path of a `clientConfig`, or an empty text."""
    service = client.get("service")
    return str(service.get("path") or "") if service else urlsplit(str(client.get("url") or "")).path


def renewed(kind: str, client: Mapping[str, Any], today: date, *, is_new: bool) -> str:
    """Return the new path of a `clientConfig`, or nothing if it stays unchanged.

    A path without a secret, or a URL, was chosen by an administrator and is not changed.
    """
    path = path_of(client)
    start = f"/{ACTIONS[kind]}/{today:%Y%m%d}-"
    if not client.get("service") or (path and not path.startswith(f"/{ACTIONS[kind]}/")):
        return ""
    return "" if path.startswith(start) and not is_new else start + secrets.token_hex(24)
