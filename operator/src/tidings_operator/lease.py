"""Leader election by a Lease, as in Kubernetes' own controllers: one of several operators writes."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from tidings_operator import metrics
from tidings_operator.client import LEASES, ApiError, Client

LOG = logging.getLogger(__name__)
NAME = "tidings-operator"


class Lease:
    """The lease to write, held for `duration` seconds after each renewal."""

    def __init__(self, client: Client, *, namespace: str, identity: str, duration: float) -> None:
        self._client = client
        self._namespace = namespace
        self._identity = identity
        self._duration = duration
        self._until = 0.0
        self._seen = ("", 0.0)
        self._mine: dict[str, Any] | None = None
        """The lease as last written by this operator, so that a renewal takes one request."""
        self.taken = asyncio.Event()
        """Set whenever the lease has been acquired."""

    @property
    def held(self) -> bool:
        """True while this operator may write: two thirds of the duration, to tolerate faster clocks elsewhere."""
        return time.monotonic() < self._until

    async def keep(self) -> None:
        """Acquire the lease when it is free and renew it, until cancelled."""
        while True:
            asked = time.monotonic()
            try:
                async with asyncio.timeout(self._duration / 3):  # before the next attempt
                    is_mine = await self._try()
                if is_mine:
                    if not self.held:
                        LOG.info("this operator (%s) writes now", self._identity)
                        self.taken.set()
                    self._until = asked + self._duration * 2 / 3
            except TimeoutError:
                self._mine = None
                LOG.warning("the lease could not be renewed: no answer within %.1f s", self._duration / 3)
            except ApiError as error:
                LOG.warning("the lease could not be renewed: %s", error)
            metrics.LEADER.set(self.held)
            await asyncio.sleep(self._duration / 5)

    async def release(self) -> None:
        """Release the lease, so that the next operator need not wait."""
        if self.held:
            self._until = 0.0
            lease = await self._client.get(LEASES, self._namespace, NAME)
            if lease and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = ""
                await self._put(lease)

    async def _try(self) -> bool:
        known, self._mine = self._mine, None
        if known and await self._put({**known, "spec": self._spec(known["spec"])}):
            return True
        lease = await self._client.get(LEASES, self._namespace, NAME)
        if lease is None:
            body = {
                "apiVersion": LEASES.group_version,
                "kind": LEASES.kind,
                "metadata": {"name": NAME, "namespace": self._namespace},
                "spec": self._spec({}),
            }
            return await self._written("POST", LEASES.path(self._namespace), body)
        if not self._is_holder(lease["spec"]) and not self._is_free(lease["spec"]):
            return False
        lease["spec"] = self._spec(lease["spec"])
        return await self._put(lease)

    def _is_holder(self, spec: dict[str, Any]) -> bool:
        return spec.get("holderIdentity") == self._identity

    def _is_free(self, spec: dict[str, Any]) -> bool:
        """Return True if the lease has expired by the local clock, because clocks differ between machines."""
        if not spec.get("holderIdentity"):
            return True
        renewed = str(spec.get("renewTime"))
        if self._seen[0] != renewed:
            self._seen = (renewed, time.monotonic())
        return time.monotonic() - self._seen[1] > float(spec.get("leaseDurationSeconds") or self._duration)

    def _spec(self, before: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        is_holder = self._is_holder(before)
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(timedelta(seconds=self._duration).total_seconds())),
            "acquireTime": before.get("acquireTime", now) if is_holder else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions", 0)) + (0 if is_holder else 1),
        }

    async def _put(self, lease: dict[str, Any]) -> bool:
        return await self._written("PUT", LEASES.path(self._namespace, NAME), lease)

    async def _written(self, method: str, path: str, body: dict[str, Any]) -> bool:
        """Write the lease; a conflict means that another operator was faster, 404 that it has been deleted."""
        try:
            self._mine = await self._client.request(method, path, body)
        except ApiError as error:
            if error.status in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                return False
            raise
        return True


class Alone:
    """No-op lease for a single replica."""

    held = True
