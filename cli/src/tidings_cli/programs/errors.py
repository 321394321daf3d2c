"""Exceptions raised while a program is obtained."""

from tidings.errors import TidingsError


class ProgramError(TidingsError):
    """A program is missing and could not be obtained. `remedy` describes how to get it."""

    def __init__(self, what: str, *, remedy: str) -> None:
        super().__init__(f"{what}\n  remedy: {remedy}")
        self.remedy = remedy
