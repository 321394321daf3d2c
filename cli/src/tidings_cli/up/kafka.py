"""Configuration and initialisation of a local Kafka server, which is a broker and its own controller."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tidings_cli.programs.jars import command
from tidings_cli.up.errors import UpError
from tidings_cli.up.ports import HOST

CONTROLLER = "kafka.controller"
"""Name of the port between controllers."""
CLUSTER = "AAAAAAAAAAAAAAAAAAAAAQ"
"""Cluster id of local servers: 16 bytes in base64."""
_LISTENERS = ("clients", "controller")
_SETTINGS = {
    "process.roles": "broker,controller",
    "auto.create.topics.enable": "false",  # topics have the partitions of the plan
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
}
"""What is the same for every server."""


def configuration(
    data: Path,
    port: int,
    controller: int,
    *,
    login: tuple[str, str] | None = None,
    node: int = 1,
    voters: Mapping[int, int] | None = None,
) -> str:
    """Return the content of a server's properties file.

    Args:
        data: The server's folder.
        port: The port for clients.
        controller: The port for controllers.
        login: User and password that clients and controllers must give; None for no password.
        node: The server's number.
        voters: The controller ports of all servers, by number; None for a single server.

    """
    quorum = voters or {node: controller}
    protocol, copies = ("SASL_PLAINTEXT" if login else "PLAINTEXT"), str(len(quorum))
    clients, controllers = (name.upper() for name in _LISTENERS)
    settings = {
        **_SETTINGS,
        "node.id": str(node),
        "listeners": f"{clients}://{HOST}:{port},{controllers}://{HOST}:{controller}",
        "advertised.listeners": f"{clients}://{HOST}:{port}",
        "listener.security.protocol.map": f"{clients}:{protocol},{controllers}:{protocol}",
        "inter.broker.listener.name": clients,
        "controller.listener.names": controllers,
        # Not the dynamic quorum, which stores ports: they may be others at the next start.
        "controller.quorum.voters": ",".join(f"{number}@{HOST}:{where}" for number, where in quorum.items()),
        "log.dirs": str(data / "log"),
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "share.coordinator.state.topic.replication.factor": copies,
        **({"controlled.shutdown.enable": "false"} if len(quorum) == 1 else {}),
        **(_login(*login) if login else {}),
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def _login(user: str, password: str) -> dict[str, str]:
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    login = f'{module} required username="{user}" password="{password}" user_{user}="{password}";'
    return {
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        **{f"listener.name.{name}.plain.sasl.jaas.config": login for name in _LISTENERS},
    }


def format_storage(jars: Path, configuration_file: Path, data: Path) -> None:
    """Initialise the server's log folder, unless that has been done.

    Raises:
        UpError: Kafka's own tool failed.

    """
    if (data / "log/meta.properties").exists():
        return
    words = command(jars, "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(configuration_file))
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UpError(f"Kafka's storage cannot be initialised: {result.stderr.strip() or result.stdout.strip()}")
