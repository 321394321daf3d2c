"""Export of a run as a file for `dapr run -f`, the Dapr CLI's multi-app run."""

from pathlib import Path
from typing import Any

import yaml

from tidings.conventions import APP_API_TOKEN, DAPR_API_TOKEN
from tidings_cli.up import orphans
from tidings_cli.up.errors import UpError
from tidings_cli.up.files import make_private
from tidings_cli.up.ports import HOST
from tidings_cli.up.prepare import Prepared
from tidings_cli.up.process import Process

TOKENS = {DAPR_API_TOKEN, APP_API_TOKEN}
"""Not exported: a run file sets the environment of apps only, so their sidecars would not know the tokens."""
COMMON = {
    "appProtocol": "http",
    "apiListenAddresses": HOST,
    "appHealthProbeInterval": 1,
    "appHealthProbeTimeout": 1000,
    "appHealthThreshold": 6,
}


def write(system: Prepared, file: Path) -> None:
    """Write the run file; it refers to resources and policies in the run folder.

    Each service and program is an app; those without a sidecar get an idle one.

    Raises:
        UpError: Broker or state store would be started by `tidings up`; `dapr run` starts apps and sidecars only.

    """
    for option, backend in (("--broker", system.system.broker), ("--state", system.system.store)):
        if backend.process:
            raise UpError(
                f"`dapr run` does not start {backend.process}: start it yourself, and name its URL with {option}"
            )
    sidecars = {
        process.name.removesuffix(".daprd"): process for process in system.processes if process.role == "sidecar"
    }
    ready = {instance.name: instance.service.ready for instance in system.system.instances}
    apps = [
        _app(process, system, sidecars.get(process.name), ready.get(process.name, ""))
        for process in system.processes
        if process.role in {"service", "program"}
    ]
    document = {"version": 1, "name": system.system.home.project.name, "common": COMMON, "apps": apps}
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def _app(process: Process, system: Prepared, sidecar: Process | None, ready: str) -> dict[str, Any]:
    resources = system.folder.resources(process.app)
    make_private(resources.parent)
    resources.mkdir(exist_ok=True)
    app: dict[str, Any] = {
        "appID": process.app,
        "appDirPath": str(process.cwd),
        "resourcesPaths": [str(resources)],
        "command": list(process.argv),
        "env": {name: value for name, value in process.env.items() if name not in {*TOKENS, orphans.MARK}},
    }
    if sidecar:
        app |= {
            "appPort": process.ports["app"],
            "daprHTTPPort": sidecar.ports["http"],
            "daprGRPCPort": sidecar.ports["grpc"],
            "daprInternalGRPCPort": sidecar.ports["internal"],
            "metricsPort": sidecar.ports["metrics"],
            "enableAppHealthCheck": True,
            "appHealthCheckPath": ready,
        }
    return app
