"""The process: where the API server is, the settings, the log. SIGTERM and SIGINT are kopf's: it then ends."""

import logging

import kopf
import uvloop

from tidings_operator.operating import Operator
from tidings_operator.settings import SettingsError, read


def login() -> kopf.ConnectionInfo:
    """Return how the API server is reached: as the pod's service account, else as the kubeconfig says."""
    settings = kopf.OperatorSettings()
    info = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if info is None:
        raise SystemExit("no API server: run it in a pod with a service account, or set KUBECONFIG")
    return info


async def run() -> None:
    """Run until SIGTERM or SIGINT."""
    try:
        settings = read()
    except SettingsError as error:
        raise SystemExit(str(error)) from error
    await Operator(settings, login).run()


def main() -> None:
    """Run the operator."""
    # kopf logs a line for every event of every object.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    uvloop.run(run())
