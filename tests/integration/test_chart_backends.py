"""The chart's settings for NATS, Redis and PostgreSQL, applied to real servers."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from pathlib import Path

import psycopg
import pytest
from tests.support.charts import VALUE_SETS, of_kind, rendered

from tidings.brokers.jetstream import ensure_streams
from tidings_cli.programs import ensure
from tidings_cli.testing.programs import Ports, listens, running

pytestmark = pytest.mark.real


def test_nats_takes_the_charts_settings_and_asks_for_its_password(tmp_path: Path) -> None:
    secret = of_kind(rendered("pizza"), "Secret")["pizza-nats"]["stringData"]
    with Ports() as ports:
        client, monitor = ports.take(), ports.take()
        config = secret["nats.conf"].replace("4222", str(client)).replace("8222", str(monitor))
        (tmp_path / "nats.conf").write_text(config.replace('"/data"', f'"{tmp_path}/data"'))
        url = secret["NATS_URL"].replace("nats:4222", f"127.0.0.1:{client}")
        command = [str(ensure("nats-server")["nats-server"]), "--config", str(tmp_path / "nats.conf")]
        with running(command, tmp_path / "nats.log", lambda: listens(client)):
            asyncio.run(ensure_streams(url, ["orders.orderPlaced.v1"]))
            with socket.create_connection(("127.0.0.1", client), timeout=60) as stranger:
                assert b'"auth_required":true' in stranger.recv(4096)


def test_redis_keeps_what_it_accepts_and_asks_for_its_password(tmp_path: Path) -> None:
    secret = of_kind(rendered("pizza", VALUE_SETS["redis"]), "Secret")["pizza-redis"]["stringData"]
    server = ensure("redis-server")["redis-server"]
    with Ports() as ports:
        port = ports.take()
        config = secret["redis.conf"].replace("port 6379", f"port {port}").replace("dir /data", f"dir {tmp_path}")
        (tmp_path / "redis.conf").write_text(config)

        def ask(*words: str, password: str = secret["REDIS_PASSWORD"]) -> str:
            command = [str(server.with_name("redis-cli")), "-p", str(port), "--no-auth-warning", *words]
            env = {**os.environ, "REDISCLI_AUTH": password}
            return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout

        with running([str(server), str(tmp_path / "redis.conf")], tmp_path / "redis.log", lambda: listens(port)):
            assert "PONG" in ask("ping")
            assert "NOAUTH" in ask("ping", password="")
            assert "noeviction" in ask("config", "get", "maxmemory-policy")
            assert "yes" in ask("config", "get", "appendonly")


def test_postgres_has_an_isolated_database_per_service(postgres: str) -> None:
    secret = of_kind(rendered("pizza", VALUE_SETS["ha"]), "Secret")["pizza-postgres"]["stringData"]
    with psycopg.connect(postgres, autocommit=True) as owner:
        for statement in secret["databases.sql"].splitlines():
            owner.execute(statement)
    own = {name: secret[name] for name in ("POSTGRES_URL", "ARCHIVE_DATABASE_URL", "PAYMENTS_DATABASE_URL")}
    where = postgres.partition("@")[2].partition("/")[0]
    for url in own.values():
        with psycopg.connect(url.replace("postgres:5432", where), sslmode="disable") as client:
            client.execute("CREATE TABLE kept (id int)")
    foreign = own["ARCHIVE_DATABASE_URL"].replace("postgres:5432/archive", f"{where}/payments")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(foreign, sslmode="disable")
