"""Fault injection: which call of a sidecar fails, when, and how."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from tidings.errors import ProcessEnd, SidecarUnavailable

Call = Literal["publish", "get", "get_many", "transact", "get_secret"]
When = Literal["before", "after"]


class Crash(ProcessEnd):
    """Simulates the death of the process: `sidecar.fail("transact", when="after", error=Crash())`."""


@dataclass(slots=True)
class _Fault:
    call: Call | None
    when: When
    error: BaseException
    times: int
    skip: int


class Faults:
    """Faults of a `MemorySidecar`, in the order in which they were requested."""

    def __init__(self) -> None:
        self.down = False
        """While True, every call fails as if the sidecar were unreachable."""
        self.calls: list[Call] = []
        """All calls so far, including failed ones. To crash at every point in turn, run once and count."""
        self._faults: list[_Fault] = []

    def fail(
        self,
        call: Call | None = None,
        *,
        times: int = 1,
        skip: int = 0,
        when: When = "before",
        error: BaseException | None = None,
    ) -> None:
        """Make the next calls fail.

        Args:
            call: The call that fails; any by default.
            times: Number of calls that fail.
            skip: Number of calls that succeed first.
            when: Before the call takes effect, or after it, so that the caller cannot tell.
            error: Exception to raise; `SidecarUnavailable` by default, `Crash()` for the death of the process.

        """
        self._faults.append(_Fault(call, when, error or SidecarUnavailable("as the test asked"), times, skip))

    def heal(self) -> None:
        """Remove all faults."""
        self.down = False
        self._faults.clear()

    @contextmanager
    def around(self, call: Call) -> Iterator[None]:
        """Raise the faults of a call, before or after the effect in the context."""
        self.calls.append(call)
        if self.down:
            raise SidecarUnavailable("the sidecar is down, as the test asked")
        fault = self._due(call)
        if fault is not None and fault.when == "before":
            raise fault.error
        yield
        if fault is not None:
            raise fault.error

    def _due(self, call: Call) -> _Fault | None:
        for fault in self._faults:
            if fault.call not in (None, call):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.times -= 1
            if not fault.times:
                self._faults.remove(fault)
            return fault
        return None
