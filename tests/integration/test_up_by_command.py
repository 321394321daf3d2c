"""`tidings up` as a separate process, controlled by signals and observed by its output."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tidings_cli.up import orphans, ports, state

pytestmark = pytest.mark.real
PINGPONG = Path(__file__).parent / "data" / "pingpong"
COMPONENTS = Path(__file__).parents[2] / "components"
TIDINGS = str(Path(sys.executable).with_name("tidings"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pingpong")
    shutil.copytree(PINGPONG, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".run"))
    file = root / "tidings.yaml"
    file.write_text(file.read_text().replace("../../../../components", str(COMPONENTS)))
    return root


def processes(run_dir: Path) -> list[psutil.Process]:
    """Return every process that belongs to the run."""
    result = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(orphans.MARK) == str(run_dir):
                result.append(process)
    return result


@pytest.fixture
def base() -> Iterator[int]:
    """Yield three free ports in a row."""
    with ports.block() as free:
        yield next(port for port in free if ports.is_free(port + 1) and ports.is_free(port + 2))


def up(project: Path, run_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [TIDINGS, "up", "--plain", "--run-dir", str(run_dir), *arguments]
    return subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def read_until(started: subprocess.Popen[str], text: str) -> str:
    assert started.stdout
    output = ""
    for line in started.stdout:
        output += line
        if text in line:
            return output
    raise AssertionError(f"ended without saying {text!r}:\n{output}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_in_order(project: Path, tmp_path: Path, base: int, number: signal.Signals) -> None:
    with up(project, tmp_path, "--port-base", str(base)) as started:
        output = read_until(started, "open http://")
        assert " ready in " in output
        assert f"open http://127.0.0.1:{base}" in output
        assert len(processes(tmp_path)) == 6
        started.send_signal(number)
        rest, _ = started.communicate(timeout=120)
        assert "all processes have stopped" in rest
        assert started.returncode == 0
    assert processes(tmp_path) == []
    assert state.read(tmp_path).phase == "stopped"


def test_kill_9_of_the_whole_leaves_nothing(project: Path, tmp_path: Path, base: int) -> None:
    with up(project, tmp_path, "--port-base", str(base)) as started:
        read_until(started, "open http://")
        started.kill()
    _, alive = psutil.wait_procs(processes(tmp_path), timeout=60)
    assert alive == []
    with up(project, tmp_path, "--port-base", str(base)) as again:
        read_until(again, "open http://")  # neither a port nor the folder is still held
        again.terminate()


def test_a_taken_port_is_one_clear_line(project: Path, tmp_path: Path, base: int) -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", base + 1))
        holder.listen()
        with up(project, tmp_path, "--port-base", str(base)) as started:
            output, _ = started.communicate(timeout=120)
    assert started.returncode == 1
    (line,) = [line for line in output.splitlines() if "warning: " not in line]
    assert line.startswith(f"error: port {base + 1} (pong) is taken by ")
    assert f"(pid {os.getpid()}: " in line
    assert line.endswith("stop it, use other ports with --port-base 9000, or change `port:` in tidings.yaml")
    assert processes(tmp_path) == []


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_broken_cel_never_reaches_a_sidecar(project: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    broken = tmp_path / "project"
    shutil.copytree(project, broken)
    file = broken / "services/pong/contracts/subscriptions.yaml"
    file.write_text(file.read_text().replace("event.type == 'ping.ballServed'", "event.type =="))
    with up(broken, tmp_path / "run", *arguments) as started:
        output, _ = started.communicate(timeout=120)
    assert started.returncode == 1
    assert "services/pong/contracts/subscriptions.yaml:9:" in output
    assert "nothing was started" in output
    assert not (tmp_path / "run" / state.FILE_NAME).exists()


def test_a_service_that_cannot_start_is_shown_with_its_traceback(project: Path, tmp_path: Path, base: int) -> None:
    broken = tmp_path / "project"
    shutil.copytree(project, broken)
    main = broken / "services/pong/src/pong/main.py"
    main.write_text("import no_such_module\n" + main.read_text())
    with up(broken, tmp_path / "run", "--port-base", str(base)) as started:
        output = read_until(started, "fix it")
        assert "pong died: exit code 1; last output:" in output
        assert "ModuleNotFoundError: No module named 'no_such_module'" in output
        main.write_text(main.read_text().removeprefix("import no_such_module\n"))
        read_until(started, " ready in ")  # mended while it runs
        started.terminate()


def test_it_stops_in_order_when_no_one_reads_its_output_any_more(project: Path, tmp_path: Path, base: int) -> None:
    with up(project, tmp_path, "--port-base", str(base), "--verbose") as started:
        assert started.stdout
        started.stdout.readline()
        started.stdout.close()
        started.wait(timeout=60)
    assert processes(tmp_path) == []
    assert state.read(tmp_path).phase == "stopped"
