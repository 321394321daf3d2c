"""Source locations: map a field path of a resource to file, line and column."""

from dataclasses import dataclass

import yaml

from tidings_plan.resources.findings import Location

Path = tuple[str | int, ...]


def spell(path: Path) -> str:
    """Format a field path: `spec.filters[0].cel`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The YAML source of a resource. Without a node (a resource read from a cluster), only field paths are known."""

    file: str = ""
    node: yaml.Node | None = None
    lines: tuple[str, ...] = ()

    def at(self, *path: str | int) -> Location:
        """Return the location of a field's value, or of its nearest parent in the source."""
        node = self._find(path)
        if node is None:
            return Location(self.file, field=spell(path))
        return Location(self.file, node.start_mark.line + 1, node.start_mark.column + 1, spell(path))

    def below(self, *path: str | int) -> "Origin":
        """Return the origin of the value at a path."""
        return Origin(self.file, self._find(path), self.lines)

    def key(self, *path: str | int) -> Location:
        """Return the location of a field's name, used for unknown fields."""
        parent = self._find(path[:-1])
        if isinstance(parent, yaml.MappingNode):
            for name, _ in parent.value:
                if name.value == path[-1]:
                    return Location(self.file, name.start_mark.line + 1, name.start_mark.column + 1, spell(path))
        return self.at(*path)

    def inside(self, path: Path, line: int, column: int) -> Location:
        """Return the file location of a 1-based line and column inside a string value, such as a CEL expression."""
        node = self._find(path)
        start = self.at(*path)
        if not isinstance(node, yaml.ScalarNode) or not self.lines:
            return start
        first = node.start_mark.line + 1
        if node.style in ("|", ">"):
            # A block scalar starts on the line after its indicator; YAML strips the common indentation.
            below = first + line - 1
            text = self.lines[below] if below < len(self.lines) else ""
            indent = len(text) - len(text.lstrip())
            return Location(self.file, below + 1, indent + column, start.field)
        if node.start_mark.line != node.end_mark.line:
            return start  # line folding makes the column inside a multi-line flow scalar ambiguous
        quote = 1 if node.style else 0
        return Location(self.file, first, node.start_mark.column + quote + column, start.field)

    def _find(self, path: Path) -> yaml.Node | None:
        node = self.node
        for step in path:
            below: yaml.Node | None = None
            if isinstance(node, yaml.MappingNode):
                below = next((value for name, value in node.value if name.value == str(step)), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                below = node.value[step]
            if below is None:
                return node
            node = below
        return node
