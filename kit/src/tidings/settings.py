"""Settings, all from the environment. Dapr sets the names without a prefix itself."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What a service needs to know of its surroundings."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    dapr_grpc_endpoint: str | None = Field(
        default=None, description="The sidecar's gRPC address, where it is not local"
    )
    dapr_grpc_port: int = Field(default=50001, description="The sidecar's gRPC port")
    dapr_api_token: SecretStr | None = Field(default=None, description="Sent to the sidecar with every call")
    app_api_token: SecretStr | None = Field(
        default=None, description="Asked of whoever delivers an event; the sidecar sends it"
    )

    tidings_policy: Path | None = Field(default=None, description="The consumer policy that the plan core wrote")
    tidings_instance: str = Field(
        default_factory=socket.gethostname, description="This replica's name, the same after a restart"
    )
    tidings_pubsub: str = Field(default="pubsub", description="The pub/sub component")
    tidings_state: str = Field(default="state", description="The state store component")
    tidings_deadline: float = Field(default=5.0, gt=0, description="Seconds that any call to the sidecar may take")
    tidings_drain: float = Field(default=10.0, ge=0, description="Seconds that work in flight is given at shutdown")
    tidings_max_event: int = Field(
        default=1_000_000, gt=0, description="Largest event in bytes; NATS carries 1 MiB by default, headers included"
    )
    tidings_log: Literal["json", "console"] = Field(default="json", description="Log lines for machines or for people")
    tidings_log_level: str = Field(default="INFO", description="The lowest level that is logged")

    tidings_hosts: str = Field(
        default="",
        description="Names under which the API is asked, beside the service's own, `localhost` and IP addresses; "
        "separated by commas, `*.example.org` is a pattern",
    )
    tidings_metrics_host: str = Field(default="127.0.0.1", description="Address on which metrics are served")
    tidings_metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port on which metrics are served; nowhere where it is left out"
    )
    tidings_streams: int = Field(default=1000, ge=1, description="Streams of server-sent events at the same time")
    tidings_streams_per_address: int = Field(
        default=100, ge=1, description="How many of these streams one address may hold"
    )

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names in `TIDINGS_HOSTS`."""
        return tuple(name for each in self.tidings_hosts.split(",") if (name := each.strip()))
