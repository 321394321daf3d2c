"""The process: where the API server is, the settings, the log. SIGTERM and SIGINT are kopf's: it then ends."""

import asyncio
import ctypes
import gc
import logging

import kopf
import uvloop

from tidings.observability import logs
from tidings_operator.operating import Operator
from tidings_operator.settings import SettingsError, read

TRIM = 60.0
"""Seconds between trims of the heap, which return free pages to the system after bursts."""


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
    uvloop.run(_run(Operator(settings, login)))


async def _run(operator: Operator) -> None:
    settling = asyncio.create_task(_settle(operator))
    try:
        await operator.run()
    finally:
        settling.cancel()


async def _settle(operator: Operator) -> None:
    """Give back what the first listing took, and let the garbage collector leave alone what is there to stay.

    Going through all that is known of 5,000 subscriptions would take it a tenth of a second, again and again.
    """
    await operator.synced.wait()
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim:  # glibc keeps what was freed in between; other C libraries have no such call, and no such need
        trim(0)
        await asyncio.sleep(TRIM)
