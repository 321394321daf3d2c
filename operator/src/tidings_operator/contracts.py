"""Apply EventTypes and EventSubscriptions from a file, as a Job of the chart tidings does for the archive.

Helm cannot install custom resources in the release that first installs their definitions: it checks all kinds before it
creates anything. This program waits for the definitions instead. The resources belong to a ConfigMap of the release, so
that Kubernetes deletes them with it.
"""

import argparse
import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from tidings_operator.client import APPLY, CONFIG_MAPS, MANAGER, OWN, ApiError, Client
from tidings_operator.process import login

LOG = logging.getLogger(__name__)
AGAIN = 2.0
"""Seconds between attempts."""


async def apply(client: Client, namespace: str, owner: str, resources: list[dict[str, Any]]) -> None:
    """Apply the resources in a namespace, as dependents of the ConfigMap `owner`.

    Raises:
        ApiError: The API server rejects one for good; the message names it.

    """
    config_map = await _insist(partial(_owner, client, namespace, owner))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": config_map["metadata"]["uid"]}
    for resource in resources:
        name, kind = resource["metadata"]["name"], resource["kind"]
        metadata = {**resource["metadata"], "namespace": namespace, "ownerReferences": [reference]}
        path = OWN[kind].path(namespace, name)
        body = {**resource, "metadata": metadata}
        params = {"fieldManager": f"{MANAGER}-contracts", "force": "true"}
        await _insist(partial(client.request, "PATCH", path, body, content_type=APPLY, params=params))
        LOG.info("applied %s %s/%s", kind, namespace, name)


async def _owner(client: Client, namespace: str, name: str) -> Any:
    stored = await client.get(CONFIG_MAPS, namespace, name)
    if stored is None:
        raise ApiError(0, f"there is no ConfigMap {namespace}/{name} yet")
    return stored


async def _insist(request: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat a request until it succeeds: the definitions, the rights or the API server may not be available yet."""
    while True:
        try:
            return await request()
        except ApiError as error:
            # Forbidden is not final here: the RoleBinding may be created after the Job.
            if error.is_final and error.status != HTTPStatus.FORBIDDEN:
                raise
            LOG.warning("%s; trying again", error)
            await asyncio.sleep(AGAIN)


async def main() -> None:
    """Apply the file that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("namespace")
    parser.add_argument("owner", help="ConfigMap that owns the resources")
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    resources = [document for document in yaml.safe_load_all(arguments.file.read_text()) if document]
    async with Client(login) as client:
        await apply(client, arguments.namespace, arguments.owner, resources)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(main())
