"""Resolution of `${...}` references in commands and environments of `tidings.yaml`.

| reference | value |
|---|---|
| `${port:NAME}`, `${port:NAME.KEY}` | a port of a service or program; further ports by their key |
| `${url:NAME}` | `http://127.0.0.1:<port>` |
| `${port}`, `${name}`, `${instance}` | of the process itself; an instance is `<name>-<replica>` |
| `${run}`, `${data}` | the run folder; the data folder of this service in it |
| `${map}` | the file with the system map: types, consumers, deprecations |
| `${python}` | the Python interpreter that runs `tidings` |
| `${env:NAME}` | a variable of the environment `tidings` was started in |
| `$$` | a dollar sign |
"""

import string
from collections.abc import Mapping

from tidings_cli.up.errors import ProjectError


class _Template(string.Template):
    idpattern = "(?!)"
    braceidpattern = r"[a-z]+(?::[A-Za-z0-9_.-]+)?"


class _Values(dict[str, str]):
    """Values of the process itself; `kind:name` references are resolved on access."""

    def __init__(self, own: Mapping[str, str], ports: Mapping[str, int], environ: Mapping[str, str]) -> None:
        super().__init__(own)
        self._ports, self._environ = ports, environ

    def __missing__(self, reference: str) -> str:
        match reference.partition(":"):
            case ("port", ":", name) if name in self._ports:
                return str(self._ports[name])
            case ("url", ":", name) if name in self._ports:
                return f"http://127.0.0.1:{self._ports[name]}"
            case ("env", ":", name) if name in self._environ:
                return self._environ[name]
        raise KeyError(reference)


def fill(text: str, own: Mapping[str, str], ports: Mapping[str, int], environ: Mapping[str, str], *, where: str) -> str:
    """Replace all references in `text`; `where` names the field in errors.

    Raises:
        ProjectError: A reference is unknown, or a dollar sign is not escaped.

    """
    try:
        return _Template(text).substitute(_Values(own, ports, environ))
    except KeyError as error:
        known = ", ".join(sorted(name for name in ports if ".daprd" not in name))
        raise ProjectError(f"{where}: ${{{error.args[0]}}} is unknown; names with ports: {known}") from None
    except ValueError:
        raise ProjectError(
            f"{where}: {text!r} has a `$` that does not start a reference; write `$$` for a dollar sign"
        ) from None
