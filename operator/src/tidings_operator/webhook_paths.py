"""The webhooks' paths, of which one part is a secret: by it the operator tells the API server from any other client.

The API server presents a client certificate only where its administrator has configured one, and any pod can connect to
the webhooks. The webhook configurations, however, are readable by cluster administrators only. So the operator writes a
random path into them, and answers at no other. A path can become known through an error message about a webhook that
did not answer: each start of an operator replaces it, and so does each day.
"""

import hmac
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Any
from urllib.parse import urlsplit

GRACE = 60.0
"""Seconds for which a replaced path is answered: until every API server has seen the next one."""
ACTIONS: Mapping[str, str] = {"ValidatingWebhookConfiguration": "validate", "MutatingWebhookConfiguration": "default"}
PLAIN = frozenset(f"/{action}" for action in ACTIONS.values())


class Paths:
    """The paths at which the webhooks are answered: those that the configurations name, now or until just now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._current: frozenset[str] = frozenset()
        self._replaced: dict[str, float] = {}

    def observe(self, configurations: Iterable[Mapping[str, Any]]) -> None:
        """Take the paths that the configurations name."""
        now, named = self._clock(), frozenset(filter(None, map(path_of, _clients(configurations))))
        self._replaced = {path: since for path, since in self._replaced.items() if now - since < GRACE}
        self._replaced |= dict.fromkeys(self._current - named, now)
        self._current = named

    def admits(self, path: str) -> bool:
        """Return True for a path that the API server was told."""
        now, asked = self._clock(), path.encode(errors="surrogateescape")
        known = {*self._current, *(path for path, since in self._replaced.items() if now - since < GRACE)}
        return any(hmac.compare_digest(asked, item.encode()) for item in known)


def path_of(client: Mapping[str, Any]) -> str:
    """Return the path of a `clientConfig`; empty where it has none yet."""
    service = client.get("service")
    return str(service.get("path") or "") if service else urlsplit(str(client.get("url") or "")).path


def renewed(kind: str, client: Mapping[str, Any], today: date, *, is_new: bool) -> str:
    """Return the path that a `clientConfig` should get, or nothing where it stays as it is.

    A path without a secret, or a URL, is somebody's own choice: it stays.
    """
    path = path_of(client)
    start = f"/{ACTIONS[kind]}/{today:%Y%m%d}-"
    if not client.get("service") or (path and not path.startswith(f"/{ACTIONS[kind]}/")):
        return ""
    return "" if path.startswith(start) and not is_new else start + secrets.token_hex(24)


def _clients(configurations: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return [webhook["clientConfig"] for configuration in configurations for webhook in configuration["webhooks"]]
