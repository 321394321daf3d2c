"""The local run against others on the same machine, and against what data makes a terminal do."""

from __future__ import annotations

import os
import re
import stat
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tidings.terminal import printable
from tidings_cli.up import ports, state
from tidings_cli.up.errors import UpError
from tidings_cli.up.files import make_own, write_private
from tidings_cli.up.folder import RunFolder
from tidings_cli.up.logs import LogFile, parse_line
from tidings_cli.up.view import log_line


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_run_folder_and_its_secrets_are_the_owners(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / ".run")
    folder.prepare(["orders"], fresh=False)
    secret = folder.password
    for inside in (folder.data_root, folder.data("orders"), folder.logs, folder.held):
        assert _mode(inside) == 0o700, inside
    assert _mode(folder.data_root / "password") == _mode(folder.keys) == 0o600
    assert folder.password == secret  # a store keeps it with its data
    folder.prepare(["orders"], fresh=True)
    assert folder.password != secret


def test_a_link_in_the_place_of_a_secret_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    secret = tmp_path / "secret"
    secret.symlink_to(victim)
    write_private(secret, "x")
    assert not secret.is_symlink()
    assert (secret.read_text(), victim.read_text()) == ("x", "precious")
    (tmp_path / "secret.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        write_private(secret, "y")
    assert (secret.read_text(), victim.read_text()) == ("x", "precious")


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED, only root can make a folder another account's")
@pytest.mark.parametrize("planted", ["folder", "link", "link to our own"])
def test_a_run_folder_planted_by_another_user_is_refused(tmp_path: Path, planted: str) -> None:
    """In /tmp, anybody can be the first to make a folder of that name, and put links into it afterwards."""
    place, elsewhere, anonymous = tmp_path / "run", tmp_path / "elsewhere", 65534
    elsewhere.mkdir(mode=0o755)
    elsewhere.chmod(0o755)
    (elsewhere / "resources").mkdir()
    if planted == "folder":
        place.mkdir()
    else:
        place.symlink_to(elsewhere)
    os.chown(place, anonymous, anonymous, follow_symlinks=False)
    if planted == "link":
        os.chown(elsewhere, anonymous, anonymous)
    with pytest.raises(UpError, match="another account"):
        make_own(place)
    assert _mode(elsewhere) == 0o755
    assert (elsewhere / "resources").is_dir()


def test_a_run_folder_of_our_own_may_be_a_link_and_is_closed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o777)
    (tmp_path / "run").symlink_to(disk)
    make_own(tmp_path / "run")
    make_own(tmp_path / "new/deep")
    assert _mode(disk) == _mode(tmp_path / "new/deep") == 0o700


def test_a_link_in_the_place_of_the_state_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f"{state.FILE_NAME}.new").symlink_to(victim)
    empty = state.RunState(
        project="p", root="/", supervisor=state.Identity(1, 0.0), phase="stopped", broker="nats", store="redis"
    )
    with pytest.raises(OSError, match="symbolic link"):
        state.write(tmp_path, empty)
    assert victim.read_text() == "precious"


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "orders.log").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        LogFile(tmp_path / "orders.log")
    log = LogFile(tmp_path / "menu.log", max_bytes=10)
    (tmp_path / "menu.log.1").symlink_to(victim)  # it is replaced when the log is rotated
    for _ in range(3):
        log.write(b"12345678\n")
    log.close()
    assert _mode(tmp_path / "menu.log") == 0o600
    assert victim.read_text() == "precious"


def test_nothing_in_the_run_folder_is_written_through_links() -> None:
    """A folder that was open to others may hold links of theirs when it is closed."""
    sources = [file for file in Path(state.__file__).parent.glob("*.py") if file.name != "dapr_run.py"]
    assert not [file.name for file in sources if re.search(r"\.write_(text|bytes)\(|\.open\(\"[wax]", file.read_text())]


def test_nobody_sees_half_of_a_file(tmp_path: Path) -> None:
    """Sidecars, services and the archive read files of the run folder again while `tidings up` rewrites them."""
    write_private(tmp_path / "map.json", "before")
    with (tmp_path / "map.json").open() as before:
        write_private(tmp_path / "map.json", "after")
        assert before.read() == "before"
    assert (tmp_path / "map.json").read_text() == "after"


def test_a_file_that_was_open_to_all_is_closed(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0o666)
    write_private(tmp_path / "secret", "x")
    assert _mode(tmp_path / "secret") == 0o600


@pytest.mark.parametrize("planted", ["link", "file", "open to all"])
def test_a_ports_folder_planted_by_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    place, elsewhere = tmp_path / f"tidings-ports-{os.getuid()}", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if planted == "link":
        place.symlink_to(elsewhere)
    elif planted == "file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o777)
    with pytest.raises(UpError, match="remove it"), ports.block():
        pass
    assert list(elsewhere.iterdir()) == []


def test_a_link_among_the_reservations_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    victim = tmp_path / "victim"
    victim.write_text("precious")
    with ports.block():
        pass
    folder = tmp_path / f"tidings-ports-{os.getuid()}"
    for start in range(ports.FIRST, ports.LAST - ports.BLOCK, ports.BLOCK):
        (folder / str(start)).unlink(missing_ok=True)
        (folder / str(start)).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"), ports.block():
        pass
    assert victim.read_text() == "precious"


def test_secrets_are_in_no_representation() -> None:
    from tidings_cli.up.prepare import Prepared  # noqa: PLC0415

    shown = {name for name, item in Prepared.__dataclass_fields__.items() if item.repr}
    assert shown.isdisjoint({"dapr_api_token", "app_api_token", "password"})
    assert "dapr_api_token" in state.RunState.__struct_fields__


HOSTILE = [
    "\x1b[2J\x1b[1;1H",
    "\x1b]8;;http://evil.example\x07click\x1b]8;;\x07",
    "\x1b]0;title\x07",
    "a\rb",
    "a\nb",
    "\x9b31m",
    "\x08\x08",
    "\u202eevil\u202c",
    "\u2028",
    "\x00",
    "\x7f",
    "\x85",
    "\u200b",
    "\U000e0041",
    "\ud800",
    "\udc1b[2J",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["event", "reason", "exception", "correlation_id", "plain"])
def test_the_text_of_data_is_shown_and_never_obeyed(text: str, field: str) -> None:
    import json  # noqa: PLC0415

    line = f"said {text}" if field == "plain" else json.dumps({"event": "x", "level": "error", field: f"said {text}"})
    out = StringIO()
    Console(file=out, force_terminal=False, soft_wrap=True).print(
        log_line("orders", parse_line(line), "cyan", 10, "12:00:00")
    )
    shown = out.getvalue().removesuffix("\n")
    assert all(item.isprintable() for part in shown.split("\n") for item in part)
    for continued in shown.split("\n")[1:]:
        assert continued.startswith(" " * 19 + " │ ")  # a line of a traceback, not of the log


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("Grüße, 世界 🍕", "", "a  b", "C:\\x1b"):
        assert printable(text) == text
    assert printable("a\tb\x1b", keep="\t") == "a\tb\\x1b"
