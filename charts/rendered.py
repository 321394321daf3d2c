"""Writes what the charts become, with everything switched on that a chart ships: for checks of other programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tidings_cli.programs import ensure

CHARTS = Path(__file__).resolve().parent
APIS = ("dapr.io/v1alpha1", "tidings.dev/v1alpha1", "keda.sh/v1alpha1")
KUBERNETES = "1.34.4"
EVERYTHING = {
    "pizza": ("--set", "postgres.enabled=true,ingress.enabled=true,metrics.podMonitor=true"),
    "tidings": ("--set", "metrics.serviceMonitor=true,metrics.prometheusRule=true,metrics.dashboards=true"),
}
"""What is off by default, and shipped."""


def render(chart: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `helm template` as against a cluster that has Dapr, Tidings and KEDA."""
    helm = str(ensure("helm")["helm"])
    apis = [word for api in APIS for word in ("--api-versions", api)]
    command = [helm, "template", chart, str(CHARTS / chart), "--namespace", chart, "--kube-version", KUBERNETES]
    uncollected = {**os.environ, "GOGC": "off"}  # helm ends before collecting garbage pays: a quarter of its time
    return subprocess.run([*command, *apis, *arguments], capture_output=True, text=True, check=False, env=uncollected)


def main(folder: str) -> None:
    """Render both charts into files of the folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for chart, switches in EVERYTHING.items():
        done = render(chart, *switches)
        if done.returncode:
            sys.exit(done.stderr)
        (Path(folder) / f"{chart}.yaml").write_text(done.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
