"""A service as `tidings new service` writes it, run by `tidings up` with a real sidecar and broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from tidings_cli.commands import app
from tidings_cli.up.run import running
from tidings_cli.up.system import Options

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]


async def test_a_new_service_publishes_and_consumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["desk"], ["helpers", "--consumes", "desk.caseOpened"]):
        result = CliRunner().invoke(app, ["new", "service", *arguments])
        assert result.exit_code == 0, result.output
    async with running(tmp_path, Options(free_ports=True), deadline=300) as run, httpx2.AsyncClient(timeout=60) as http:
        answer = await http.post(f"{run.url('desk')}/cases", json={"caseId": "c-1"}, timeout=60)
        assert answer.status_code == 200, answer.text
        while (await http.get(f"{run.url('helpers')}/cases/c-1", timeout=60)).status_code == 404:  # noqa: ASYNC110 - the service has no event
            await asyncio.sleep(0.1)
