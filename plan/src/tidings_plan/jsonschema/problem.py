"""Problems found by comparing two schemas."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Problem:
    """An incompatibility at a field of the data."""

    field: str
    message: str

    def inside(self, step: str) -> "Problem":
        """Return the problem as one of a field."""
        return replace(self, field=f"{step}{self.field}")


Problems = tuple[Problem, ...]
