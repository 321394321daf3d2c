"""How the code reads, in figures: `python bench/code_figures.py [COMMIT]` prints a table."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IDIOSYNCRATIC = frozenset(
    """
    told tell tells telling say says said saying stands stand nobody somebody each found wish wishes there gone brought
    bring mend mended cry hear heard wanted given whoever whatever twice anew beside burial bury once keeper keepers
    ours mine others
    """.split()  # noqa: SIM905  # one line each would be 38 lines
)
PACKAGES = ("kit/src", "plan/src", "cli/src", "operator/src", "archive/src", "services/archive", "services", "tests")
LEADING = re.compile(r"(What|Who|Whether|Where|How|Which|When)\b")
MACHINE = re.compile(r"#\s*(noqa|type:|fmt:|pragma)")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
USES = (ast.Name, ast.Attribute)
HEAD = (
    "package",
    "lines",
    "docstrings starting with What, Who, Whether …",
    "idiosyncratic words per 1,000 identifiers",
    "comments per code line",
    "functions that are private and used once",
    "longest function",
)


class Figures:
    """Counts over the Python files of a folder."""

    def __init__(self) -> None:
        self.lines = self.code = self.comments = self.docstrings = self.leading = self.identifiers = self.odd = 0
        self.longest = self.functions = self.called_once = 0

    def add(self, text: str) -> None:
        tree = ast.parse(text)
        nodes = list(ast.walk(tree))
        self.lines += len(text.splitlines())
        self.code += sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        self.comments += sum(1 for each in tokens if each.type == tokenize.COMMENT and not MACHINE.match(each.string))
        documented = [node for node in nodes if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Module))]
        found = [docstring for node in documented if (docstring := ast.get_docstring(node))]
        self.docstrings += len(found)
        self.leading += sum(1 for docstring in found if LEADING.match(docstring))
        names = [name for node in nodes if (name := identifier(node))]
        self.identifiers += len(names)
        self.odd += sum(1 for name in names if words(name) & IDIOSYNCRATIC)
        functions = [node for node in nodes if isinstance(node, FUNCTIONS)]
        self.longest = max([self.longest, *((node.end_lineno or 0) - node.lineno + 1 for node in functions)])
        private = {node.name for node in functions if node.name.startswith("_") and not node.name.startswith("__")}
        names_used = (node.id if isinstance(node, ast.Name) else node.attr for node in nodes if isinstance(node, USES))
        uses = Counter(names_used)
        self.functions += len(functions)
        self.called_once += sum(1 for name in private if uses[name] == 1)

    def row(self, name: str) -> str:
        cells = (
            name,
            f"{self.lines:,}",
            share(self.leading, self.docstrings),
            f"{1000 * self.odd / max(self.identifiers, 1):.1f}",
            share(self.comments, self.code),
            share(self.called_once, self.functions),
            str(self.longest),
        )
        return f"| {' | '.join(cells)} |"


def share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f}%"


def identifier(node: ast.AST) -> str:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
            return name
        case ast.Name(id=name, ctx=ast.Store()):
            return name
    return ""


def words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+", re.sub(r"([A-Z])", r"_\1", name).lower()))


def measured(root: Path) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        package = next((each for each in PACKAGES if name.startswith(f"{each}/")), None)
        if package:
            found.setdefault(package, Figures()).add(path.read_text(encoding="utf-8"))
    return found


def exported(commit: str, into: Path) -> None:
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        archive.extractall(into)  # noqa: S202


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        commit = sys.argv[1] if len(sys.argv) > 1 else ""
        # Tracked files only: a commit, or what `git stash create` makes of the working tree.
        tree = (
            commit
            or subprocess.run(
                ["git", "stash", "create"], cwd=ROOT, check=True, capture_output=True, text=True
            ).stdout.strip()
        )
        exported(tree or "HEAD", Path(folder))
        found = measured(Path(folder))
    print(f"| {' | '.join(HEAD)} |")
    print("|---" * len(HEAD) + "|")
    for name, figures in found.items():
        print(figures.row(name))
    print(f"source without tests: {sum(each.lines for name, each in found.items() if name != 'tests'):,} lines")


if __name__ == "__main__":
    main()
