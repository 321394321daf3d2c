"""The process: where the API server is, the settings, the log. SIGTERM and SIGINT are kopf's: it then ends."""

import logging

import kopf
import uvloop

from tidings import logs
from tidings_operator.operating import Operator
from tidings_operator.settings import SettingsError, read


def login() -> kopf.ConnectionInfo:
    """Return how the API server is reached: as the pod's service account, else as the kubeconfig says."""
    settings = kopf.OperatorSettings()
    info = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if info is None:
        raise SystemExit("no API server: run it in a pod with a service account, or set KUBECONFIG")
    return info


def main() -> None:
    """Run the operator until SIGTERM or SIGINT."""
    try:
        settings = read()
    except SettingsError as error:
        raise SystemExit(str(error)) from error
    logs.configure("tidings-operator", "json" if settings.log == "json" else "console", settings.log_level)
    # kopf logs a line for every event of every object.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    uvloop.run(Operator(settings, login).run())
