"""The processes of a project, as a pure function."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tidings_cli.up import backends, processes
from tidings_cli.up.backends import BROKERS, STORES, choose
from tidings_cli.up.errors import ProjectError, UpError
from tidings_cli.up.folder import RunFolder
from tidings_cli.up.probes import Answers, Listens, SidecarServes
from tidings_cli.up.process import Process
from tidings_cli.up.processes import RunContext, instances, requested_ports, services
from tidings_cli.up.project import Home, Program, Project, Service

HOME = Home(
    Path("/shop"),
    Project(
        name="shop",
        environment={"KITCHEN": "${url:kitchen}", "LIMIT": 1},
        programs=[Program(name="mail", command=["mail", "${port:mail.smtp}", "${data}"], ports={"smtp": None})],
    ),
    (
        Service(name="orders", folder="services/orders", port=8001, replicas=2, environment={"LIMIT": True}),
        Service(name="kitchen", folder="services/kitchen", port=8002, module="kitchen_app", ready="/up"),
        Service(name="web", folder="web", sidecar=False, command=["serve", "${name}", "${instance}", "${run}"]),
    ),
)
SUBSCRIPTIONS = frozenset({("pubsub", "orders.orderPlaced.v1")})


def run_context() -> RunContext:
    started = instances(HOME, (), {})
    expected = requested_ports(HOME, started, ["nats"])
    return RunContext(
        home=HOME,
        folder=RunFolder(Path("/run")),
        ports={name: port or 20000 + index for index, (name, port) in enumerate(expected.items())},
        tools={"daprd": Path("/bin/daprd"), "nats-server": Path("/bin/nats-server")},
        environ={"PYTHONPATH": "/mine"},
        dapr_api_token="to-dapr",
        app_api_token="to-app",
        subscriptions={"kitchen": SUBSCRIPTIONS},
    )


@pytest.fixture
def made() -> dict[str, Process]:
    around = run_context()
    everything = [*processes.programs(HOME.programs, around), *services(instances(HOME, (), {}), around)]
    return {item.name: item for item in everything}


@pytest.mark.parametrize(
    ("only", "replicas", "names"),
    [
        ((), {}, ["orders", "orders-1", "kitchen", "web"]),
        (("web", "orders"), {"orders": 1}, ["orders", "web"]),
        ((), {"orders": 1, "kitchen": 3}, ["orders", "kitchen", "kitchen-1", "kitchen-2", "web"]),
    ],
)
def test_instances(only: tuple[str, ...], replicas: dict[str, int], names: list[str]) -> None:
    assert [instance.name for instance in instances(HOME, only, replicas)] == names


def test_only_may_name_programs_too() -> None:
    assert [companion.name for companion in processes.companions(HOME, ("orders",))] == []
    assert [companion.name for companion in processes.companions(HOME, ("mail",))] == ["mail"]
    assert [companion.name for companion in processes.companions(HOME, ())] == ["mail"]
    assert instances(HOME, ("mail",), {}) == []


@pytest.mark.parametrize(("only", "replicas"), [(("kitche",), {}), ((), {"kitche": 2})])
def test_an_unknown_service_is_reported_with_the_likely_one(only: tuple[str, ...], replicas: dict[str, int]) -> None:
    with pytest.raises(UpError, match=r"unknown service or program kitche. Did you mean 'kitchen'\?"):
        instances(HOME, only, replicas)


def test_every_service_but_the_web_page_has_a_sidecar(made: dict[str, Process]) -> None:
    assert list(made) == [
        *("mail", "orders", "orders.daprd", "orders-1", "orders-1.daprd", "kitchen", "kitchen.daprd", "web"),
    ]


def test_a_service_gets_the_addresses_of_its_sidecar_and_neighbours(made: dict[str, Process]) -> None:
    orders, sidecar = made["orders-1"], made["orders-1.daprd"]
    assert (
        orders.env.items()
        >= {
            "APP_ID": "orders",
            "APP_PORT": str(orders.ports["app"]),
            "DAPR_HTTP_PORT": str(sidecar.ports["http"]),
            "DAPR_GRPC_PORT": str(sidecar.ports["grpc"]),
            "DAPR_API_TOKEN": "to-dapr",
            "APP_API_TOKEN": "to-app",
            "TIDINGS_POLICY": "/run/policies/orders.json",
            "TIDINGS_INSTANCE": "orders-1",
            "TIDINGS_DATA": "/run/data/orders",
            "TIDINGS_KEYS": "/run/data/keys.db",
            "KITCHEN": "http://127.0.0.1:8002",
            "LIMIT": "true",
            "PYTHONPATH": "/shop/services/orders/src:/mine",
        }.items()
    )
    assert orders.argv[:3] == (sys.executable, "-m", "uvicorn")
    assert orders.argv[-1] == "orders.main:app"
    assert str(orders.ports["app"]) in orders.argv
    assert orders.ready == Answers(f"http://127.0.0.1:{orders.ports['app']}/healthz")


def test_a_sidecar_knows_its_app_and_waits_for_the_planned_subscriptions(made: dict[str, Process]) -> None:
    sidecar = made["kitchen.daprd"]
    value = dict(zip(sidecar.argv[1::2], sidecar.argv[2::2], strict=False))
    assert value["--app-id"] == "kitchen"
    assert value["--app-port"] == "8002"
    assert value["--app-health-check-path"] == "/up"
    assert value["--resources-path"] == "/run/resources/kitchen"
    assert sidecar.env["DAPR_API_TOKEN"] == "to-dapr"
    assert sidecar.ready == SidecarServes(f"http://127.0.0.1:{sidecar.ports['http']}", "to-dapr", SUBSCRIPTIONS)
    assert "kitchen_app.main:app" in made["kitchen"].argv


def test_nothing_listens_beyond_this_machine(made: dict[str, Process]) -> None:
    sidecar = " ".join(made["orders.daprd"].argv)
    for flag in ("--dapr-listen-addresses", "--metrics-listen-address", "--dapr-internal-grpc-listen-address"):
        assert f"{flag} 127.0.0.1" in sidecar
    assert "--host 127.0.0.1" in " ".join(made["orders"].argv)


def test_a_program_without_events_gets_no_tokens(made: dict[str, Process]) -> None:
    web, mail = made["web"], made["mail"]
    assert web.argv == ("serve", "web", "web-0", "/run")
    assert "DAPR_API_TOKEN" not in web.env
    assert "APP_API_TOKEN" not in mail.env
    assert mail.argv == ("mail", str(mail.ports["smtp"]), "/run/data/mail")
    assert mail.ready == Listens(mail.ports["app"])


def test_tokens_are_not_shown(made: dict[str, Process]) -> None:
    assert "to-dapr" not in repr(made["orders.daprd"].ready)
    assert "to-dapr" not in repr(run_context())


def test_a_wrong_reference_names_the_service_and_variable() -> None:
    wrong = Service(name="web", folder="web", sidecar=False, command=["x"], environment={"A": "${port:nobody}"})
    around = replace(run_context(), home=Home(HOME.root, HOME.project, (wrong,)))
    with pytest.raises(ProjectError, match=r"tidings\.yaml: A of web: "):
        services(instances(around.home, (), {}), around)


NO_LOGIN = {"KAFKA_AUTH": "none", "KAFKA_USER": "", "KAFKA_PASSWORD": "", "KAFKA_DISABLE_TLS": "true"}
LOGIN = {**NO_LOGIN, "KAFKA_AUTH": "password", "KAFKA_USER": "default", "KAFKA_PASSWORD": "s3cret"}


@pytest.mark.parametrize(
    ("text", "kind", "address", "values"),
    [
        ("nats", "nats", "", {"NATS_URL": "nats://default:s3cret@127.0.0.1:4222"}),
        ("nats://broker:4333", "nats", "nats://broker:4333", {"NATS_URL": "nats://broker:4333"}),
        ("redis", "redis", "", {"REDIS_HOST": "127.0.0.1:6379", "REDIS_PASSWORD": "s3cret"}),
        ("redis://:pw@r", "redis", "redis://:pw@r", {"REDIS_HOST": "r:6379", "REDIS_PASSWORD": "pw"}),
        ("amqp://g@r:5672", "rabbitmq", "amqp://g@r:5672", {"RABBITMQ_URL": "amqp://g@r:5672"}),
        ("kafka://k:9092", "kafka", "kafka://k:9092", {"KAFKA_BROKERS": "k:9092", **NO_LOGIN}),
        ("kafka", "kafka", "", {"KAFKA_BROKERS": "127.0.0.1:9092", **LOGIN}),
        (
            "kafkas://me:p%40ss@k:1,l:2",
            "kafka",
            "kafkas://me:p%40ss@k:1,l:2",
            {
                **LOGIN,
                "KAFKA_BROKERS": "k:1,l:2",
                "KAFKA_USER": "me",
                "KAFKA_PASSWORD": "p@ss",
                "KAFKA_DISABLE_TLS": "false",
            },
        ),
    ],
)
def test_brokers(text: str, kind: str, address: str, values: dict[str, str]) -> None:
    chosen = choose(text, BROKERS, "broker")
    assert (chosen.kind.name, chosen.address) == (kind, address)
    assert chosen.values({"nats": 4222, "redis": 6379, "kafka": 9092}, "s3cret") == values
    assert bool(chosen.process) is not bool(address)


@pytest.mark.parametrize(
    ("text", "expected_text"),
    [
        ("rabbitmq", "cannot be started locally; set its URL: --broker amqp://"),
        ("natz", "--broker natz: unknown; use nats, redis, rabbitmq, kafka, or an address such as nats://"),
        ("http://x", "unknown"),
    ],
)
def test_an_unusable_broker_setting_names_valid_ones(text: str, expected_text: str) -> None:
    with pytest.raises(UpError, match=expected_text):
        choose(text, BROKERS, "broker")


def test_redis_as_broker_and_store_is_one_process_that_loses_nothing() -> None:
    broker, store = choose("redis", BROKERS, "broker"), choose("redis", STORES, "state")
    (redis,) = backends.processes(
        broker, store, {"redis": 6379}, {"redis-server": Path("/redis")}, Path("/data"), "s3cret"
    )
    assert "--appendonly yes" in " ".join(redis.argv)
    assert "s3cret" not in " ".join(redis.argv)
    assert (redis.role, redis.cwd) == ("broker", Path("/data/redis"))


def test_sqlite_starts_nothing_and_postgres_gets_its_database() -> None:
    assert choose("sqlite", STORES, "state").process == ""
    postgres = choose("postgres", STORES, "state")
    assert postgres.values({"postgres": 5432}, "s3cret") == {
        "POSTGRES_URL": "postgresql://default:s3cret@127.0.0.1:5432/postgres?sslmode=disable"
    }
    own = choose("postgresql://me@db/shop", STORES, "state")
    assert own.values({}, "") == {"POSTGRES_URL": "postgresql://me@db/shop"}


@pytest.mark.parametrize(("cores", "environ", "expected"), [(2, {}, "1"), (12, {}, "4"), (2, {"GOMAXPROCS": "8"}, "8")])
def test_sidecars_share_the_cores(cores: int, environ: dict[str, str], expected: str):
    around = replace(run_context(), cores=cores, environ=environ)
    sidecar = next(service for service in services(instances(HOME, (), {}), around) if service.name == "kitchen.daprd")
    assert sidecar.env["GOMAXPROCS"] == expected
