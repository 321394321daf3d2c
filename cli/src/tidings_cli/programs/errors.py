"""What goes wrong while a program is obtained."""

from __future__ import annotations

from tidings.errors import TidingsError


class ProgramError(TidingsError):
    """A program is not there and could not be obtained. `mend` says how to get it."""

    def __init__(self, what: str, *, mend: str) -> None:
        super().__init__(f"{what}\n  to mend it: {mend}")
        self.mend = mend
