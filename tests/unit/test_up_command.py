"""The commands themselves, on a project that needs no sidecar and whose broker is somebody else's."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import typer

from tidings_cli.up import command, control, control_commands, notices, ports, state
from tidings_cli.up.errors import NotRunning

SERVICE = """\
import http.server, json, sys
class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
print(json.dumps({"level": "info", "event": "opened", "correlation_id": "c-1"}), flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Web).serve_forever()
"""
PROJECT = """\
name: shop
broker: redis://127.0.0.1:1
open: web
services:
  - {name: web, folder: web, sidecar: false, command: ["${python}", "-I", "-S", web.py, "${port}"], port: PORT}
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "web.py").write_text(SERVICE)
    with ports.block() as free:
        (tmp_path / "tidings.yaml").write_text(PROJECT.replace("PORT", str(next(free))))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ready(run_dir: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with suppress(NotRunning):
            if control.running(run_dir).phase == "ready":
                return
        time.sleep(0.05)
    raise AssertionError("it does not become ready")


def while_it_runs(steer: Callable[[Path], object], number: signal.Signals = signal.SIGINT, **options: bool) -> None:
    """Run `tidings up` here, where signals arrive, and steer it from a thread; one signal ends it.

    A second one could arrive when the command no longer handles it, and would end pytest.
    """
    went_wrong: list[BaseException] = []

    def act() -> None:
        try:
            ready(Path(".run"))
            steer(Path(".run"))
        except BaseException as error:  # noqa: BLE001  # told below, in the test's own thread
            went_wrong.append(error)
        finally:
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=act)
    thread.start()
    command.up(**options)  # type: ignore[arg-type]
    thread.join()
    if went_wrong:
        raise went_wrong[0]


def nothing(_run_dir: Path) -> None:
    """Do nothing, so that the run is ended at once."""


def test_up_reports_readiness_and_ctrl_c_ends_it(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    while_it_runs(nothing)
    output = capsys.readouterr().out
    port = state.read(shop / ".run").find("web").ports["app"]
    assert "web │ opened [c-1]" in output
    assert " ready in " in output
    assert f"open http://127.0.0.1:{port}" in output
    assert output.splitlines()[-1].endswith("all processes have stopped")


def test_what_runs_is_shown(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def steer(run_dir: Path) -> None:
        control_commands.ps(run_dir=run_dir)
        control_commands.logs(["web"], run_dir=run_dir)

    while_it_runs(steer)
    output = capsys.readouterr().out
    assert "shop ready · 1/1 up" in output
    assert "\n         web │ opened [c-1]" in output  # a program that does not say when has no time in the log


def test_the_events_that_wait_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    supervisor = state.Identity.of(os.getpid())
    assert supervisor
    shop = state.RunState(
        project="shop",
        root=".",
        supervisor=supervisor,
        phase="ready",
        broker="kafka",
        store="sqlite",
        broker_lag={"kitchen": 2, "orders": 1},
        unread_dead_letters={"deadletter.kitchen": 4},
        broker_faults=3,
        latest_faults=("the broker had lost shop.itemSold.v1: recreated",),
    )
    state.write(tmp_path, shop)
    control_commands.ps(run_dir=tmp_path)
    output = capsys.readouterr().out
    assert "kafka: waiting events: 2 for kitchen, 1 for orders" in output
    assert "kafka: dead letters that no app has read: 4 in deadletter.kitchen" in output
    assert "kafka: faults since the start: 3, latest: the broker had lost shop.itemSold.v1: recreated" in " ".join(
        output.split()
    )


def with_archive(run_dir: Path, port: int) -> None:
    """Write the state of a run with an archive at a port."""
    me = state.Identity.of(os.getpid())
    assert me
    archive = state.ProcessState(name="archive", role="service", app="archive", state="ready", ports={"app": port})
    run = state.RunState(
        project="shop", root=".", supervisor=me, phase="ready", broker="nats", store="sqlite", processes=(archive,)
    )
    state.write(run_dir, run)


def test_the_latest_notices_to_owners_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def notice(title: str, age: timedelta, owners: str = "") -> dict[str, object]:
        return {"title": title, "owners": owners, "sentAt": (datetime.now(UTC) - age).isoformat(), "times": 1}

    latest = [
        notice("a.bDone v1 is \x1b[2Jdeprecated", timedelta(minutes=2, seconds=5), "kitchen (#kitchen)"),
        notice("s is not ready", timedelta(hours=23), "o" * 1000),
        notice("old", timedelta(hours=25)),
    ]
    asked = []

    class Archive(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"notices": latest}).encode())

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with HTTPServer(("127.0.0.1", 0), Archive) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with_archive(tmp_path, server.server_port)
        control_commands.ps(run_dir=tmp_path)
        server.shutdown()
    assert asked == ["/notices?limit=5"]
    *_, head, first, second = capsys.readouterr().out.splitlines()
    assert head == f"notices to owners, the latest 5 of the last day at most; all: {url}/console/notices"
    assert re.fullmatch(r"  2 min \d\d s ago: a\.bDone v1 is .*deprecated, to kitchen \(#kitchen\)", first)
    assert "\x1b" not in first
    assert second == "  23 h 00 min ago: s is not ready, to…"


@pytest.mark.parametrize("listens", [True, False], ids=["silent", "down"])
def test_processes_are_shown_without_an_answer_of_the_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    monkeypatch.setattr(notices, "TIMEOUT", 0.1)
    with socket.socket() as archive:
        archive.bind(("127.0.0.1", 0))
        if listens:
            archive.listen()
        with_archive(tmp_path, archive.getsockname()[1])
        control_commands.ps(run_dir=tmp_path)
    output = capsys.readouterr().out
    assert "shop ready · 1/1 up" in output
    assert "notices to owners cannot be read from http://127.0.0.1:" in output


def test_programs_can_read_the_state_of_a_run(shop: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    while_it_runs(lambda run_dir: control_commands.ps(run_dir=run_dir, as_json=True))
    output = capfdbinary.readouterr().out
    published = json.JSONDecoder().raw_decode(output[output.index(b"{\n") :].decode())[0]
    assert [process["name"] for process in published["processes"]] == ["web"]


def test_control_commands(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def steer(run_dir: Path) -> None:
        control_commands.restart("web", run_dir=run_dir)
        control_commands.stop("web", run_dir=run_dir)
        control_commands.start("web", run_dir=run_dir)
        with pytest.raises(typer.Exit):
            control_commands.restart("wep", run_dir=run_dir)

    while_it_runs(steer)
    output = capsys.readouterr()
    for line in ("web is ready again, pid ", "web is stopped; `tidings start web`", "web is ready, pid "):
        assert line in output.out
    assert "error: unknown process wep; known processes: web" in output.err


def test_down_stops_it_from_elsewhere(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def steer(run_dir: Path) -> None:
        assert control.running(run_dir).supervisor.pid == os.getpid()

    while_it_runs(steer, signal.SIGTERM)  # as `down` sends it, which would wait for this very process
    control_commands.down(run_dir=shop / ".run")
    assert capsys.readouterr().out.splitlines()[-1] == "all processes have stopped"


def test_check_starts_nothing(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.up(check=True)
    assert capsys.readouterr().out == "shop: 1 services on redis and sqlite, 0 topics; nothing was started\n"
    assert not (shop / ".run").exists()


@pytest.mark.parametrize(
    ("act", "expected_text"),
    [
        (control_commands.ps, "no system was started in .run; start it with `tidings up`"),
        (lambda: command.up(only=["wep"]), "unknown service or program wep. Did you mean 'web'?"),
        (lambda: command.up(store="mysql"), "--state mysql: unknown; use sqlite, redis, postgres"),
    ],
)
def test_errors_are_one_line_and_exit_code_1(
    shop: Path, capsys: pytest.CaptureFixture[str], act: Callable[[], None], expected_text: str
) -> None:
    with pytest.raises(typer.Exit) as left:
        act()
    assert left.value.exit_code == 1
    assert capsys.readouterr().err.startswith(f"error: {expected_text}")


@pytest.mark.parametrize("provided", ["orders", "orders=none", "=2", "orders=0"])
def test_invalid_replicas_are_reported_with_the_syntax(provided: str) -> None:
    with pytest.raises(typer.BadParameter, match="write NAME=NUMBER, such as orders=2"):
        command.up(replicas=[provided])


def test_a_finished_run_is_not_taken_for_a_running_one(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    while_it_runs(nothing, plain=True)
    with pytest.raises(typer.Exit):
        control_commands.ps(run_dir=shop / ".run")
