"""Keys of persons in PostgreSQL: shared by services, wrapped, destroyed for good."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest

from tidings import Service
from tidings.dapr.client import DaprSidecar
from tidings.errors import DefinitionError, SidecarUnavailable
from tidings.settings import Settings
from tidings.subject_keys import KeyStore, from_settings
from tidings.subject_keys_postgres import KeyTable
from tidings.testing import MemorySidecar
from tidings_cli.testing.fixtures import StartDaprd
from tidings_cli.testing.programs import Ports, running

pytestmark = pytest.mark.real
MASTER = "m" * 32


@pytest.fixture
def url(postgres: str) -> str:
    name = f"keys_{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"{postgres.rpartition('/')[0]}/{name}"


@pytest.fixture
def tables(url: str) -> Iterator[tuple[KeyTable, KeyTable]]:
    first, second = KeyTable(url, MASTER), KeyTable(url, MASTER)
    yield first, second
    first.close()
    second.close()


def rows(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT subject, key FROM subject_keys ORDER BY subject").fetchall()


def test_services_share_keys_which_the_database_cannot_read(tables: tuple[KeyTable, KeyTable], url: str) -> None:
    with ThreadPoolExecutor(8) as pool:  # the tables, too, are created by both at once
        made = set(pool.map(lambda number: tables[number % 2].create("p-1"), range(16)))
    (key,) = made
    assert key is not None
    assert len(key) == 32
    assert [(subject, key in wrapped) for subject, wrapped in rows(url)] == [("p-1", False)]


def test_a_destroyed_key_stays_destroyed_and_is_announced_once(tables: tuple[KeyTable, KeyTable], url: str) -> None:
    here, elsewhere = tables
    here.create("p-1")
    here.create("p-2")
    assert here.destroy("p-1")
    assert not here.destroy("p-1")
    assert (here.key("p-1"), elsewhere.create("p-1"), elsewhere.key("p-2")) == (None, None, here.key("p-2"))
    assert elsewhere.forgotten() == ["p-1"]
    elsewhere.announced("p-1")
    elsewhere.announced("p-1")
    assert here.forgotten() == []
    assert rows(url)[0] == ("p-1", None)


def test_a_wrapped_key_of_another_person_or_master_key_is_refused(tables: tuple[KeyTable, KeyTable], url: str) -> None:
    tables[0].create("p-1")
    other = KeyTable(url, "n" * 32)
    with pytest.raises(DefinitionError, match="wrapped by another TIDINGS_MASTER_KEY"):
        other.key("p-1")
    other.close()
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO subject_keys SELECT 'p-2', key FROM subject_keys")
    with pytest.raises(DefinitionError, match="the key of p-2 was wrapped by another"):
        tables[1].key("p-2")


def test_a_lost_connection_postpones_and_is_replaced(tables: tuple[KeyTable, KeyTable], url: str) -> None:
    keys = tables[0]
    key = keys.create("p-1")
    keys._kept.clear()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(SidecarUnavailable, match="the database with the keys of persons"):
        keys.key("p-1")
    assert keys.key("p-1") == key


def test_a_database_that_is_away_postpones() -> None:
    with pytest.raises(SidecarUnavailable, match="the database with the keys of persons"):
        KeyTable("postgresql://127.0.0.1:1/none", MASTER).create("p-1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tidings_keys_url": "postgresql://db/keys"}, "set either TIDINGS_MASTER_KEY or TIDINGS_MASTER_KEY_SECRET"),
        (
            {
                "tidings_keys_url": "postgresql://db/keys",
                "tidings_master_key": MASTER,
                "tidings_master_key_secret": "vault/tidings/key",
            },
            "set either TIDINGS_MASTER_KEY or TIDINGS_MASTER_KEY_SECRET",
        ),
        ({"tidings_keys_url": "postgresql://db/keys", "tidings_master_key": "short"}, "of 32 or more"),
        ({"tidings_keys_url": "postgresql://db/keys", "tidings_keys": "/keys.db"}, "are both set"),
    ],
)
def test_contradicting_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        from_settings(Settings(**settings))


def test_settings_choose_the_store() -> None:
    chosen: KeyStore | None = from_settings(
        Settings(tidings_keys_url="postgresql://db/keys", tidings_master_key=MASTER)  # type: ignore[arg-type]
    )
    assert isinstance(chosen, KeyTable)
    assert from_settings(Settings()) is None


@pytest.fixture(params=["file", "vault"])
def secrets(request: pytest.FixtureRequest, tmp_path: Path, ports: Ports) -> Iterator[dict[str, str]]:
    """Yield a secret store with the master key, as the type and metadata of its component."""
    secret = {"master": MASTER, "short": "x"}
    if request.param == "file":
        file = tmp_path / "secrets.json"
        file.write_text(json.dumps({"tidings/personal": secret}))
        yield {"type": "secretstores.local.file", "secretsFile": str(file), "multiValued": "true"}
        return
    program = shutil.which("vault")
    if program is None:
        pytest.skip("NOT TESTED, Vault is not on PATH")
    address = f"127.0.0.1:{ports.take()}"
    command = [program, "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"]
    headers = {"X-Vault-Token": "root"}
    log = tmp_path / "vault.log"
    with running([*command, f"-dev-listen-address={address}"], log, lambda: "Root Token: root" in log.read_text()):
        answer = httpx2.post(
            f"http://{address}/v1/secret/data/tidings/personal", json={"data": secret}, headers=headers, trust_env=False
        )
        answer.raise_for_status()
        yield {
            "type": "secretstores.hashicorp.vault",
            "vaultAddr": f"http://{address}",
            "vaultToken": "root",
            "enginePath": "secret",
            "vaultKVUsePrefix": "false",
        }


async def test_the_master_key_is_read_from_a_secret_store_of_dapr(
    url: str, tables: tuple[KeyTable, KeyTable], daprd: StartDaprd, secrets: dict[str, str]
) -> None:
    kind = secrets.pop("type")
    metadata = [{"name": name, "value": value} for name, value in secrets.items()]
    component = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": "secrets"},
        "spec": {"type": kind, "version": "v1", "metadata": metadata},
    }
    process = await daprd("orders", resources=[component])
    key = tables[0].create("p-1")
    async with DaprSidecar(process.address) as sidecar:
        keys = KeyTable(url, secret="secrets/tidings/personal/master")
        with pytest.raises(SidecarUnavailable, match="was not read yet from secrets/tidings/personal/master"):
            keys.key("p-1")
        await keys.unlock(sidecar)
        assert keys.key("p-1") == key
        keys.close()
        for secret, error, message in (
            ("secrets/tidings/personal/other", DefinitionError, "has no key other, but master, short"),
            ("secrets/tidings/personal/short", DefinitionError, "key short, has 1 characters"),
            ("secrets/tidings/none/master", SidecarUnavailable, "secret tidings/none in secrets"),
            ("none/tidings/personal/master", SidecarUnavailable, "secret tidings/personal in none"),
        ):
            with pytest.raises(error, match=message):
                await KeyTable(url, secret=secret).unlock(sidecar)


async def test_a_service_postpones_until_the_secret_store_has_the_master_key(url: str) -> None:
    settings = Settings(tidings_keys_url=url, tidings_master_key_secret="vault/tidings/master")  # type: ignore[arg-type]
    sidecar = MemorySidecar("orders")
    service = Service("orders", settings=settings, sidecar=sidecar)
    await service.start()
    await asyncio.sleep(0)
    assert not await service.ready()
    sidecar.secrets["vault", "tidings"] = {"master": MASTER}
    async with asyncio.timeout(60):
        while not await service.ready():  # noqa: ASYNC110 - readiness is polled, as by a probe
            await asyncio.sleep(0.02)
    await service.stop()
