from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from tests.contract.test_services import ROOT, load_program
from typer.testing import CliRunner

from tidings_cli.programs import PROGRAMS, ProgramError, ensure, gobuild, locate, obtain, release
from tidings_cli.programs.command import tools
from tidings_cli.programs.pins import DAPR, GoModule, Program, Release
from tidings_cli.programs.places import cache_folder, cached, packaged, parse_version
from tidings_cli.programs.release import published_digest

LOST = 'package lost\n\nfunc Name() string { return "served" }\n'
pinning = load_program(ROOT / ".ci/pinning.py")
SAYS_ITS_VERSION = "#!/bin/sh\necho toy version {}\n"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Set up an empty cache, and a PATH with only what a shell script needs."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("TIDINGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path / "cache"


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def known(monkeypatch: pytest.MonkeyPatch, program: Program) -> Program:
    monkeypatch.setitem(PROGRAMS, program.name, program)
    return program


TOY = Program(name="toy", version="1.2.3")


@pytest.mark.parametrize(
    ("expected_text", "version"),
    [
        ("1.18.1\n", (1, 18, 1)),
        ("edge\n", None),
        ("1.18.1-rc.2\n", None),
        ("nats-server: v2.15.1\n", (2, 15, 1)),
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", (7, 0, 15)),
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", (15, 18)),
        ("Client Version: v1.34.4\nKustomize Version: v5.7.1", (1, 34, 4)),
        ("Client Version: v1.34.4-gke.1\nKustomize Version: v5.7.1", None),
        ('version.BuildInfo{Version:"v3.19.0", GoVersion:"go1.24.7"}', (3, 19, 0)),
        ("kind v0.30.0 go1.24.6 linux/amd64", (0, 30, 0)),
    ],
)
def test_the_version_that_a_program_prints(expected_text: str, version: tuple[int, ...] | None) -> None:
    assert parse_version(expected_text) == version


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"TIDINGS_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/tidings"),
        ({"HOME": "/c"}, "/c/.cache/tidings"),
    ],
)
def test_where_the_cache_is(environment: Mapping[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TIDINGS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


@pytest.mark.parametrize(
    ("on_path", "pinned", "taken"),
    [("1.2.3", True, True), ("1.2.4", True, False), ("1.2.4", False, True), ("1.2.2", False, False)],
)
def test_a_program_on_path_is_taken_in_a_version_that_will_do(
    on_path: str, pinned: bool, taken: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known(monkeypatch, Program(name="toy", version="1.2.3", pinned=pinned))
    path = script(tmp_path / "bin/toy", SAYS_ITS_VERSION.format(on_path))
    assert locate("toy") == (path if taken else None)


def test_a_program_that_does_not_run_is_passed_over_for_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toy = known(monkeypatch, TOY)
    script(tmp_path / "bin/toy", "no program at all")
    assert locate("toy") is None
    cached(toy).parent.mkdir(parents=True)
    cached(toy).touch()
    assert locate("toy") == cached(toy)
    assert cached(toy).name == "toy-1.2.3"


def test_what_is_compiled_in_is_part_of_the_cached_name() -> None:
    assert re.fullmatch(rf"daprd-{re.escape(DAPR)}-[0-9a-f]{{8}}", cached(PROGRAMS["daprd"]).name)


def test_an_unknown_name_is_an_error_before_any_work() -> None:
    with pytest.raises(KeyError):
        ensure("daprd", "no-such-program")


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("ABC123\n", "abc123"),
        ("abc123  toy.tar.gz\n", "abc123"),
        ("abc123 *./toy.tar.gz", "abc123"),
        ("000 other.tar.gz\nabc123 toy.tar.gz\n", "abc123"),
        ("000 other.tar.gz\n", None),
        ("", None),
    ],
)
def test_the_published_checksum_is_extracted(text: str, digest: str | None) -> None:
    assert published_digest(text, "toy.tar.gz") == digest


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Yield a folder, and the address that it is served at."""
    folder = tmp_path / "site"
    folder.mkdir()
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def released(address: str, name: str, member: str = "") -> Program:
    url = f"{address}/{name}"
    return Program(name="toy", version="1.2.3", release=Release(url=url, checksums=f"{url}.sha256", member=member))


def publish(folder: Path, name: str, content: bytes, digest: str | None = None) -> None:
    (folder / name).write_bytes(content)
    (folder / f"{name}.sha256").write_text(f"{digest or hashlib.sha256(content).hexdigest()}  {name}\n")


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Name the SHA-256 that a user trusts for the toy."""
    return lambda content: monkeypatch.setenv("TIDINGS_SHA256_TOY", hashlib.sha256(content).hexdigest())


def archive(member: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo(member)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def test_a_release_is_fetched_checked_and_kept(
    site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, cache: Path, trusted: Callable[[bytes], None]
) -> None:
    folder, address = site
    packed = archive("deep/toy", SAYS_ITS_VERSION.format("1.2.3").encode())
    publish(folder, "toy.tar.gz", packed)
    trusted(packed)
    toy = known(monkeypatch, released(address, "toy.tar.gz", member="deep/toy"))
    published: list[str] = []
    assert ensure("toy", report=published.append) == {"toy": cached(toy)}
    assert subprocess.run([cached(toy)], capture_output=True, text=True, check=True).stdout == "toy version 1.2.3\n"
    assert published == ["downloading toy 1.2.3", "toy is ready"]
    assert {file.name for file in (cache / "bin").iterdir()} == {"toy-1.2.3", "toy-1.2.3.lock"}

    shutil.rmtree(folder)
    assert ensure("toy", report=published.append) == {"toy": cached(toy)}, "found: nothing is fetched again"
    assert len(published) == 2


def test_a_wrong_checksum_is_an_error_and_never_passed_over(
    site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    folder, address = site
    publish(folder, "toy", b"tampered with", digest="0" * 64)
    known(monkeypatch, released(address, "toy"))
    monkeypatch.setenv("TIDINGS_SHA256_TOY", "0" * 64)
    monkeypatch.setattr(obtain, "build", lambda *_: pytest.fail("it must not be built instead"))
    with pytest.raises(ProgramError, match=f"pinned is {'0' * 64}"):
        ensure("toy")
    assert [file.name for file in (cache / "bin").iterdir()] == ["toy-1.2.3.lock"]


def test_an_unpinned_release_is_not_trusted(
    site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """A checksum next to a release proves nothing: an attacker who replaces one replaces both."""
    folder, address = site
    publish(folder, "toy", SAYS_ITS_VERSION.format("1.2.3").encode())
    known(monkeypatch, released(address, "toy"))
    with pytest.raises(ProgramError, match=f"no SHA-256 of {address}/toy is pinned: set TIDINGS_SHA256_TOY to") as it:
        ensure("toy")
    assert it.value.remedy == "put toy 1.2.3 on PATH"
    assert [file.name for file in (cache / "bin").iterdir()] == ["toy-1.2.3.lock"]


@pytest.mark.parametrize("given", ["0" * 63, "g" * 64, "*", f"{'0' * 64}  toy"])
def test_what_is_no_checksum_does_not_count_as_one(
    given: str, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = site
    publish(folder, "toy", SAYS_ITS_VERSION.format("1.2.3").encode())
    known(monkeypatch, released(address, "toy"))
    monkeypatch.setenv("TIDINGS_SHA256_TOY", given)
    with pytest.raises(ProgramError, match="TIDINGS_SHA256_TOY is no SHA-256"):
        ensure("toy")


def test_a_pinned_checksum_overrides_the_published_one(site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can replace a release can replace the checksum beside it."""
    folder, address = site
    genuine, planted = (SAYS_ITS_VERSION.format("1.2.3") + f"# {item}\n" for item in ("genuine", "planted"))
    pinned = f"# by hand\n{hashlib.sha256(genuine.encode()).hexdigest()}  {address}/toy\n"
    monkeypatch.setattr(release, "packaged", {"sums/releases.sum": pinned.encode()}.get)
    monkeypatch.setenv("TIDINGS_SHA256_TOY", hashlib.sha256(planted.encode()).hexdigest())
    publish(folder, "toy", planted.encode())
    toy = known(monkeypatch, released(address, "toy"))
    with pytest.raises(ProgramError, match=f"pinned is {hashlib.sha256(genuine.encode()).hexdigest()}"):
        ensure("toy")
    assert not cached(toy).exists()
    publish(folder, "toy", genuine.encode(), digest="0" * 64)
    ensure("toy")
    assert cached(toy).read_text() == genuine


def test_a_release_has_an_end_and_leads_to_nothing_unencrypted(
    site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = site
    publish(folder, "toy", b"x" * 2_000)
    monkeypatch.setenv("TIDINGS_SHA256_TOY", "0" * 64)
    known(monkeypatch, released(address, "toy"))
    monkeypatch.setattr(release, "LARGEST", 1_000)
    with pytest.raises(ProgramError, match="exceeds 1000 bytes"):
        ensure("toy")
    known(monkeypatch, released("http://mirror.example", "toy"))
    with pytest.raises(ProgramError, match="is not HTTPS"):
        ensure("toy")


def test_everything_built_is_pinned_by_checksum() -> None:
    lines = packaged(gobuild.SUMS).decode().splitlines()
    known_ = {tuple(line.split()[:2]) for line in lines}
    assert all(re.fullmatch(r"\S+ \S+ h1:[A-Za-z0-9+/]{43}=", line) for line in lines)
    for program in PROGRAMS.values():
        if module := program.module:
            expected = {module.path: f"v{program.version}", **module.replacements}
            for path, version in expected.items():
                assert {(path, version), (path, f"{version}/go.mod")} <= known_, f"{program.name}: run `make pins`"
            if module.wrapped:
                assert f"{module.path} v{program.version}" in packaged(f"sums/{module.wrapped}").decode()


def test_pinned_releases_are_those_of_the_table() -> None:
    lines = [line for line in packaged("sums/releases.sum").decode().splitlines() if not line.startswith("#")]
    expected = {
        program.release.url.format(version=program.version, **target)
        for program in PROGRAMS.values()
        if program.release
        for target in pinning.TARGETS
    }
    assert {line.split()[1] for line in lines} <= expected, "run `make pins`"
    assert all(re.fullmatch(r"[0-9a-f]{64}  \S+", line) for line in lines)
    assert all(item.startswith("https://") for item in expected)


@pytest.mark.parametrize("variable", ["GONOSUMDB", "GONOSUMCHECK", "GOINSECURE", "GOPRIVATE", "GOFLAGS"])
def test_no_variable_of_go_switches_the_checking_off(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "-mod=mod" if variable == "GOFLAGS" else "*")
    assert gobuild.environment().get(variable) == ("-mod=readonly" if variable == "GOFLAGS" else None)


def test_a_release_of_another_version_is_not_kept(site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, address = site
    other = SAYS_ITS_VERSION.format("9.9.9").encode()
    publish(folder, "toy", other)
    monkeypatch.setenv("TIDINGS_SHA256_TOY", hashlib.sha256(other).hexdigest())
    toy = known(monkeypatch, released(address, "toy"))
    with pytest.raises(ProgramError, match="does not report that version"):
        ensure("toy")
    assert not cached(toy).exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", None], ids=["no route", "not published"])
def test_without_release_and_go_the_error_names_both(
    address: str | None, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = released(address or site[1], "toy")
    known(monkeypatch, Program(**{**vars(program), "module": GoModule(path="example.org/toy", package=".")}))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("TIDINGS_SHA256_TOY", "0" * 64)
    published: list[str] = []
    with pytest.raises(ProgramError, match=r"Go is not installed\n  remedy: install Go .*put toy 1\.2\.3 on PATH"):
        ensure("toy", report=published.append)
    assert "no release of toy 1.2.3 is available" in published[-1]


def serve_module(proxy: Path, module: str, version: str, sources: dict[str, str]) -> None:
    """Put a version of a module into a folder that is laid out as a module proxy."""
    versions = proxy / module / "@v"
    versions.mkdir(parents=True, exist_ok=True)
    (versions / f"{version}.info").write_text(json.dumps({"Version": version}))
    (versions / f"{version}.mod").write_text(sources["go.mod"])
    with zipfile.ZipFile(versions / f"{version}.zip", "w") as packed:
        for name, text in sources.items():
            packed.writestr(f"{module}@{version}/{name}", text)


def pin(monkeypatch: pytest.MonkeyPatch, modules: Mapping[str, str], files: Mapping[str, bytes] | None = None) -> None:
    """Pin what the proxy serves of these modules, by path and version, and keep other files in the package."""
    with tempfile.TemporaryDirectory() as folder:
        result = [pinning.downloaded(path, version, Path(folder)) for path, version in modules.items()]
    lines = [f"{item['Path']} {item['Version']} {item['Sum']}\n" for item in result]
    lines += [f"{item['Path']} {item['Version']}/go.mod {item['GoModSum']}\n" for item in result]
    kept = {"sums/go.sum": "".join(lines).encode(), **(files or {})}
    monkeypatch.setattr(gobuild, "packaged", kept.get)
    monkeypatch.setattr("tidings_cli.programs.places.packaged", kept.get)


@pytest.fixture
def go_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> GoModule:
    """Return a Go module on a proxy of our own: a program that prints its version and who registered with it."""
    go = shutil.which("go", path=os.defpath + ":/usr/local/go/bin:/opt/homebrew/bin")
    if go is None:
        pytest.skip("NOT TESTED, Go is not installed: building programs from source")
    sources = {
        "go.mod": "module example.org/toy\n\ngo 1.21\n",
        "main.go": 'package main\n\nimport "example.org/toy/parts"\n\nvar version = "none"\n\n'
        'func main() { println("toy version", version, parts.Names()) }\n',
        "parts/one.go": 'package parts\n\nfunc Names() string { return "upstream" }\n',
        "parts/two.go": "package parts\n\nvar more = 1\n",
        "parts/one_test.go": "package parts\n\nthis is not compiled\n",
    }
    serve_module(tmp_path / "proxy", "example.org/toy", "v1.2.3", sources)
    gocache = subprocess.run([go, "env", "GOCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    settings = {
        "GOPROXY": f"file://{tmp_path / 'proxy'}",
        "GOSUMDB": "off",
        "GOMODCACHE": str(tmp_path / "modules"),
        "GOCACHE": gocache,
        "PATH": f"{Path(go).parent}:{os.environ['PATH']}",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gobuild, "TICK", 0.05)
    pin(monkeypatch, {"example.org/toy": "v1.2.3"})
    return GoModule(path="example.org/toy", package=".", variables={"main.version": "{version}"})


def test_a_program_is_built_with_its_version(go_module: GoModule, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = known(monkeypatch, Program(name="toy", version="1.2.3", module=go_module))
    published: list[str] = []
    ensure("toy", report=published.append)
    stderr = subprocess.run([cached(toy)], capture_output=True, text=True, check=True).stderr
    assert stderr == "toy version 1.2.3 upstream\n"
    assert re.fullmatch(r"building toy 1\.2\.3 from the Go module proxy: \d+ s", published[-2])


def test_our_own_files_replace_a_folder_of_the_module(go_module: GoModule, monkeypatch: pytest.MonkeyPatch) -> None:
    own = b'package parts\n\nfunc Names() string { return "ours" }\n'
    pin(monkeypatch, {"example.org/toy": "v1.2.3"}, {"ours.go": own})
    module = GoModule(**{**vars(go_module), "overlay": {"parts": "ours.go"}})
    toy = known(monkeypatch, Program(name="toy", version="1.2.3", module=module))
    ensure("toy")
    assert subprocess.run([cached(toy)], capture_output=True, text=True, check=True).stderr.endswith(" ours\n")


def test_a_module_that_the_proxy_does_not_serve_is_replaced_by_a_version_that_it_serves(
    go_module: GoModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proxy = tmp_path / "proxy"
    sources = {
        "go.mod": "module example.org/toy\n\ngo 1.21\n\nrequire example.org/lost v0.9.0\n",
        "main.go": 'package main\n\nimport "example.org/lost"\n\nvar version = "none"\n\n'
        'func main() { println("toy version", version, lost.Name()) }\n',
    }
    serve_module(proxy, "example.org/toy", "v1.2.4", sources)
    served = {"go.mod": "module example.org/lost\n\ngo 1.21\n", "lost.go": LOST}
    serve_module(proxy, "example.org/lost", "v0.1.0", served)
    pin(monkeypatch, {"example.org/toy": "v1.2.4"})
    toy = known(monkeypatch, Program(name="toy", version="1.2.4", module=go_module))
    with pytest.raises(ProgramError, match="failed"):
        ensure("toy")
    module = GoModule(**{**vars(go_module), "replacements": {"example.org/lost": "v0.1.0"}})
    other = known(monkeypatch, Program(name="toy", version="1.2.4", module=module))
    assert cached(other) != cached(toy)
    with pytest.raises(ProgramError, match=r"missing go\.sum entry"):
        ensure("toy")
    pin(monkeypatch, {"example.org/toy": "v1.2.4", "example.org/lost": "v0.1.0"})
    ensure("toy")
    assert subprocess.run([cached(other)], capture_output=True, text=True, check=True).stderr.endswith(" served\n")


@pytest.mark.parametrize("installed", ["1.19.8", "1.20"])
def test_a_go_that_is_too_old_is_named_with_a_remedy_that_works(
    go_module: GoModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: str
) -> None:
    """Debian 12's package is Go 1.19, which can neither build daprd nor fetch the Go that can."""
    (tmp_path / "go").write_text(f"#!/bin/sh\necho go{installed}\n")
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    known(monkeypatch, Program(name="toy", version="1.2.3", module=go_module))
    with pytest.raises(ProgramError, match=r"Go 1\.(19|20) is too old") as caught:
        ensure("toy")
    assert "https://go.dev/dl" in caught.value.remedy
    assert "apt-get" not in caught.value.remedy


@pytest.mark.parametrize("how", ["another checksum", "no checksum"])
def test_a_module_that_is_not_what_was_pinned_is_not_built(
    go_module: GoModule, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    toy = known(monkeypatch, Program(name="toy", version="1.2.3", module=go_module))
    sums = vars(gobuild)["packaged"](gobuild.SUMS).decode()
    changed = re.sub(r"(v1\.2\.3 h1:)\S{4}", r"\1AAAA", sums) if how == "another checksum" else ""
    monkeypatch.setattr(gobuild, "packaged", {gobuild.SUMS: changed.encode()}.get)
    output = "SECURITY ERROR" if changed else "no checksum of example.org/toy v1.2.3 is pinned"
    with pytest.raises(ProgramError, match=output):
        ensure("toy")
    assert not cached(toy).exists()


def test_a_program_is_built_as_a_dependency(go_module: GoModule, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped = b"module wrapper\n\ngo 1.21\n\nrequire example.org/toy v1.2.3\n"
    pin(monkeypatch, {"example.org/toy": "v1.2.3"}, {"sums/toy.mod": wrapped})
    module = GoModule(**{**vars(go_module), "wrapped": "toy.mod", "package": "example.org/toy"})
    toy = known(monkeypatch, Program(name="toy", version="1.2.3", module=module))
    ensure("toy")
    assert subprocess.run([cached(toy)], capture_output=True, text=True, check=True).stderr.endswith(" upstream\n")


def test_a_failed_build_shows_the_output_of_go(go_module: GoModule, monkeypatch: pytest.MonkeyPatch) -> None:
    module = GoModule(**{**vars(go_module), "package": "./missing"})
    toy = known(monkeypatch, Program(name="toy", version="1.2.3", module=module))
    with pytest.raises(ProgramError, match=r"(?s)ended with 1:\n.*missing.*set GOPROXY"):
        ensure("toy")
    assert not cached(toy).exists()


def test_kubernetes_takes_its_staged_modules_as_published() -> None:
    module = GoModule(path="k8s.io/kubernetes", package="k8s.io/kubernetes/cmd/kubectl", wrapped="x.mod")
    go_mod = (
        "go 1.24.0\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\tother => ./FORBIDDEN\n"
        "\tfork => example.org/fork v1.0.0\n)\n"
    )
    text = pinning.wrapper(go_mod, module, "1.34.4")
    assert text.split("\n\n")[1:] == [
        "go 1.24.0",
        "require k8s.io/kubernetes v1.34.4",
        "replace k8s.io/api => k8s.io/api v0.34.4\n",
    ]


TWO_AT_ONCE = """
import sys
from pathlib import Path
from tidings_cli.programs import PROGRAMS, ensure, obtain
from tidings_cli.programs.pins import DAPR, GoModule, Program
import time

def build(program, module, folder, report):
    with open(sys.argv[1], "a") as log: log.write("built\\n")
    time.sleep(1)
    made = folder / "toy"
    made.write_text("#!/bin/sh\\necho 1.2.3\\n")
    return made

obtain.build = build
PROGRAMS["toy"] = Program(name="toy", version="1.2.3", module=GoModule(path="x", package="."))
print(ensure("toy", report=lambda line: print(line, file=sys.stderr))["toy"])
"""


def test_two_processes_never_create_the_same_program_concurrently(tmp_path: Path) -> None:
    log = tmp_path / "log"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", TWO_AT_ONCE, str(log)]
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    answers = [process.communicate(timeout=30) for process in both]
    assert log.read_text() == "built\n"
    assert len({result for result, _ in answers}) == 1
    assert sorted("waiting for another process" in published for _, published in answers) == [False, True]


PACKAGED = Program(name="toy", version="1.2.3", pinned=False, apt="toy-server", brew="toy")


def test_a_packaged_program_is_installed_where_that_is_possible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known(monkeypatch, PACKAGED)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    made = tmp_path / "bin/toy"
    script(
        tmp_path / "bin/apt-get",  # knows the package only once its lists were fetched, and starts no service
        f"""#!/bin/sh
        echo "$RUNLEVEL $*" >> {tmp_path}/log
        case "$*" in
          update) touch {tmp_path}/lists ;;
          *) [ -e {tmp_path}/lists ] || exit 100; printf '#!/bin/sh\\necho 2.0\\n' > {made}; chmod +x {made} ;;
        esac
        """,
    )
    assert ensure("toy") == {"toy": made}
    install = "1 install --yes --no-install-recommends toy-server"
    assert (tmp_path / "log").read_text().splitlines() == [install, "1 update", install]


@pytest.mark.parametrize(("user", "apt"), [(1000, True), (0, False)])
def test_a_packaged_program_that_cannot_be_installed_is_named_per_platform(
    user: int, apt: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known(monkeypatch, PACKAGED)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    if apt:
        script(tmp_path / "bin/apt-get", "#!/bin/sh\nexit 1\n")
    with pytest.raises(ProgramError, match=r"apt-get install toy-server.*brew install toy"):
        ensure("toy")


def test_a_failed_installation_shows_its_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known(monkeypatch, PACKAGED)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    script(tmp_path / "bin/apt-get", "#!/bin/sh\necho no such package >&2\nexit 100\n")
    with pytest.raises(ProgramError, match="no such package"):
        ensure("toy")


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(tools)
    return app


def test_the_command_prints_where_every_program_is(
    command: typer.Typer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known(monkeypatch, TOY)
    path = script(tmp_path / "bin/toy", SAYS_ITS_VERSION.format("1.2.3"))
    answer = CliRunner().invoke(command, ["toy"])
    assert (answer.exit_code, answer.stdout) == (0, f"toy\t{path}\n")
    assert "toy" in CliRunner().invoke(command, ["--list"]).stdout


def test_the_commands_exit_codes(command: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = CliRunner().invoke(command, ["no-such-program"])
    assert unknown.exit_code == 2
    assert "daprd, nats-server" in " ".join(unknown.stderr.split())
    known(monkeypatch, TOY)
    missing = CliRunner().invoke(command, ["toy"])
    assert missing.exit_code == 1
    assert "remedy:" in missing.stderr
