"""A live cluster, as the end-to-end tests use it: kubectl and helm by name, pods and services over its API."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import httpx2
from kubernetes import client, config

from tidings_cli.programs import ensure

KIND = "kind-"
CURRENT = "current"
"""Stands for the context of the kubeconfig at hand, if it is kind's."""
T = TypeVar("T")


class Refused(Exception):
    """These tests install, kill and uninstall, so they need a cluster that is named explicitly."""


def chosen(named: str, current: str) -> str:
    """Return the context to work on: one that is named, or the current one where it is kind's."""
    if named != CURRENT:
        return named
    if current.startswith(KIND):
        return current
    raise Refused(f"the current context is {current}, not kind's: name it, if you mean it: make e2e CONTEXT={current}")


def current_context() -> str:
    """Return the context that kubectl would use."""
    _, current = config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
    return str(current["name"])


def until(what: str, look: Callable[[], T | None], patience: float = 120.0, pause: float = 0.5) -> T:
    """Look again until there is something to see; fails, saying what was waited for."""
    end = time.monotonic() + patience
    while not (result := look()):
        assert time.monotonic() < end, f"{patience:.0f} s, and still not: {what}"
        time.sleep(pause)
    return result


@dataclass(frozen=True)
class Cluster:
    """One namespace of a cluster."""

    context: str
    namespace: str
    _programs: dict[str, str] = field(default_factory=dict)

    @cached_property
    def api(self) -> Any:
        """Return the `kubernetes` package's client of this context."""
        return config.new_client_from_config(context=self.context)  # type: ignore[no-untyped-call]

    @cached_property
    def core(self) -> Any:
        """Return the client of the core API: pods, services and so on."""
        return client.CoreV1Api(self.api)

    def run(self, program: str, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl or helm here; what it said, or why it failed. Fails where it does, unless `check` is off."""
        path = str(ensure(program)[program])
        where = ["--context" if program == "kubectl" else "--kube-context", self.context, "--namespace", self.namespace]
        done = subprocess.run(
            [path, *where, *words], input=stdin, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0 or not check, f"{program} {' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in this namespace."""
        return self.run("kubectl", *words, stdin=stdin, check=check)

    def helm(self, *words: str, check: bool = True) -> str:
        """Run helm in this namespace."""
        return self.run("helm", *words, check=check)

    def url(self, service: str) -> str:
        """Return a service's URL through the API server, which needs no local port and follows new pods."""
        return f"{self.api.configuration.host}/api/v1/namespaces/{self.namespace}/services/{service}:http/proxy"

    def _http(self) -> dict[str, Any]:
        settings = self.api.configuration
        tls = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        if settings.cert_file:
            tls.load_cert_chain(settings.cert_file, settings.key_file)
        # A token may be short-lived: the package gets a new one when it is asked for it.
        token = settings.get_api_key_with_prefix("authorization")
        headers = {"Authorization": token} if token else {}
        return {"verify": tls, "headers": headers, "timeout": 30.0, "trust_env": False}

    @contextmanager
    def http(self) -> Iterator[httpx2.Client]:
        """Return a client for `url`."""
        with httpx2.Client(**self._http()) as result:
            yield result

    def http_async(self) -> httpx2.AsyncClient:
        """Return an asyncio client for `url`."""
        return httpx2.AsyncClient(**self._http())

    def pods(self) -> list[Any]:
        """Return all pods except those of jobs."""
        items = self.core.list_namespaced_pod(self.namespace).items
        return [
            pod
            for pod in items
            if not any(owner.kind == "Job" for owner in pod.metadata.owner_references or ())
            and not pod.metadata.deletion_timestamp
        ]

    def lives(self) -> dict[str, int]:
        """Return the number of restarts of each container by pod; a replaced pod has another name."""
        return {
            f"{pod.metadata.name}/{status.name}": status.restart_count
            for pod in self.pods()
            for status in pod.status.container_statuses or ()
        }

    def sidecar_logs(self, since: int) -> dict[str, str]:
        """Return the sidecars' logs of the last seconds, by pod."""
        return {
            pod.metadata.name: self.core.read_namespaced_pod_log(
                pod.metadata.name, self.namespace, container="daprd", since_seconds=max(1, since)
            )
            for pod in self.pods()
            if any(container.name == "daprd" for container in [*pod.spec.containers, *(pod.spec.init_containers or ())])
        }

    def conditions(self, kind: str, name: str) -> dict[str, dict[str, Any]]:
        """Return the conditions of one of Tidings' resources, by type."""
        namespaced_custom_object: Any = client.CustomObjectsApi(self.api).get_namespaced_custom_object(
            "tidings.dev", "v1alpha1", self.namespace, kind, name
        )
        return {
            condition["type"]: condition
            for condition in namespaced_custom_object.get("status", {}).get("conditions", ())
        }

    def roll_out(self, patience: int = 600) -> None:
        """Wait until every workload is as it should be."""
        for kind in ("statefulset", "deployment"):
            names = self.kubectl("get", kind, "-o", "name").split()
            for name in names:
                self.kubectl("rollout", "status", name, f"--timeout={patience}s")


def load(context: str, *images: str) -> None:
    """Put images that Docker has onto kind's nodes."""
    if not context.startswith(KIND):
        raise Refused(f"images are loaded into kind only: push them, then make e2e CONTEXT={context} REPOSITORY=…")
    kind = str(ensure("kind")["kind"])
    subprocess.run([kind, "load", "docker-image", "--name", context.removeprefix(KIND), *images], check=True)


def required_images(manifest: str) -> set[str]:
    """Return the images that a manifest's containers run on, and the sidecar image that its annotations name."""
    named = re.findall(
        r"""^\s*(?:- )?(?:image|dapr\.io/sidecar-image): ["']?([^\s"']+)["']?\s*$""", manifest, re.MULTILINE
    )
    return {name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest" for name in named}


OWN = "plant-based-pizza/"
"""Prefix of the project's images where no repository is named."""


def full_name(image: str) -> str:
    """Return an image's name with its registry, as a node stores it."""
    host, _, rest = image.partition("/")
    if rest and (host == "localhost" or "." in host or ":" in host):
        return image
    return f"docker.io/{image}" if rest else f"docker.io/library/{image}"


def missing_images(required: set[str], stored: set[str]) -> set[str]:
    """Return what a node has not stored."""
    return {image for image in required if full_name(image) not in stored}


def check_images(context: str, manifest: str) -> None:
    """Fail at once where a kind node neither has an image nor can pull it: its pods would wait for it for ever.

    Raises:
        Refused: Images are missing; the message names them and the commands that load them.

    """
    if not context.startswith(KIND):
        return  # such a cluster pulls images from its registry
    node = f"{context.removeprefix(KIND)}-control-plane"
    images = ["docker", "exec", node, "ctr", "--namespace", "k8s.io", "images"]
    stored = subprocess.run([*images, "list", "--quiet"], capture_output=True, text=True, check=True).stdout.split()
    missing = {
        image
        for image in missing_images(required_images(manifest), {*stored})
        # The project's own are built and loaded; under their default name, a registry has a stranger's, if any.
        if image.startswith(OWN)
        or subprocess.run([*images, "pull", full_name(image)], capture_output=True, check=False).returncode
    }
    if missing:
        raise Refused(
            f"images that {context} neither has nor can pull: {', '.join(sorted(missing))}. "
            "Run `make e2e-images`, which builds and loads this project's own with NATS, Redis and PostgreSQL, and "
            "`make e2e-backends` for RabbitMQ and Kafka, `make e2e-keda` for KEDA. "
            f"Load others with `kind load docker-image --name {context.removeprefix(KIND)} IMAGE`."
        )


if __name__ == "__main__":
    expected, *current = sys.argv[1:]
    load(chosen(expected, current_context()), *current)
