"""The process: address of the API server, settings and logging. kopf handles SIGTERM and SIGINT and then ends."""

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
    """Return the connection to the API server: the pod's service account, otherwise the kubeconfig."""
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
    """Return the memory of the first listing to the system, and exclude long-lived objects from garbage collection.

    A collection over the state of 5,000 subscriptions takes a tenth of a second, repeatedly.
    """
    await operator.synced.wait()
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim:  # glibc retains freed memory; other C libraries have neither this call nor the need for it
        trim(0)
        await asyncio.sleep(TRIM)
