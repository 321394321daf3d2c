"""Settings, read from the environment. Names without the prefix `TIDINGS_` are set by Dapr."""

import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of a service."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    dapr_grpc_endpoint: str | None = Field(default=None, description="gRPC address of a remote sidecar")
    dapr_grpc_port: int = Field(default=50001, description="gRPC port of the local sidecar")
    dapr_api_token: SecretStr | None = Field(default=None, description="API token sent to the sidecar with every call")
    app_api_token: SecretStr | None = Field(
        default=None, description="API token that deliveries must carry; the sidecar sends it"
    )

    tidings_policy: Path | None = Field(
        default=None,
        description="Path of the consumer policy, written by the operator, `tidings up` or `tidings render`",
    )
    tidings_keys: Path | None = Field(
        default=None,
        description="Path of the keys that encrypt personal data; without it, personal data is published in plain text",
    )
    tidings_keys_url: SecretStr | None = Field(
        default=None, description="In place of `TIDINGS_KEYS`: PostgreSQL database with these keys (postgresql://…)"
    )
    tidings_master_key: SecretStr | None = Field(
        default=None,
        description="Random text of at least 32 characters that wraps the keys in `TIDINGS_KEYS_URL`; the same for all "
        "services. Without it, personal data cannot be decrypted",
    )
    tidings_master_key_secret: str | None = Field(
        default=None,
        pattern=r"^[^/]+/.+/[^/]+$",
        description="In place of `TIDINGS_MASTER_KEY`: where a Dapr secret store, such as Vault, has this text, as "
        "STORE/NAME/KEY: name of the secret store component, name of the secret, and key in the secret",
    )
    tidings_instance: str = Field(
        default_factory=socket.gethostname, description="Name of this replica; must not change on restart"
    )
    tidings_pubsub: str = Field(default="pubsub", description="Name of the pub/sub component")
    tidings_state: str = Field(default="state", description="Name of the state store component")
    tidings_deadline: float = Field(default=5.0, gt=0, description="Timeout in seconds of each call to the sidecar")
    tidings_drain: float = Field(
        default=10.0, ge=0, description="Seconds that deliveries in flight may take at shutdown"
    )
    tidings_max_event: int = Field(
        default=1_000_000,
        gt=0,
        description="Maximum size of a published event in bytes; NATS allows 1 MiB by default, including headers",
    )
    tidings_log: Literal["json", "console"] = Field(default="json", description="Log format: JSON, or text for people")
    tidings_log_level: str = Field(default="INFO", description="Minimum log level")

    tidings_hosts: str = Field(
        default="",
        description="Additional host names of the API, besides the service's name, `localhost` and IP addresses; "
        "comma-separated, with wildcards such as `*.example.org`",
    )
    tidings_metrics_host: str = Field(
        default="127.0.0.1", description="Address of the metrics endpoint; empty for all IPv4 and IPv6 addresses"
    )
    tidings_metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of the metrics endpoint; disabled if not set"
    )
    tidings_streams: int = Field(
        default=1000, ge=1, description="Maximum number of concurrent server-sent event streams"
    )
    tidings_streams_per_address: int = Field(
        default=100, ge=1, description="Maximum number of these streams per client address"
    )

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names in `TIDINGS_HOSTS`."""
        return tuple(name for part in self.tidings_hosts.split(",") if (name := part.strip()))
