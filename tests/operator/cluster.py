"""A real kube-apiserver and etcd for tests: no nodes, no controllers, started in seconds on free ports."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tidings_cli.programs import ensure
from tidings_cli.testing.programs import Ports
from tidings_operator import crds

HERE = Path(__file__).parent
MANIFESTS = HERE.parent.parent / "operator" / "manifests"
PATIENCE = 60.0
ADMIN, OPERATOR, BOUNDED = "admin-token", "operator-token", "bounded-token"
OPERATOR_USER = "system:serviceaccount:tidings-system:tidings-operator"
BOUNDED_USER = "system:serviceaccount:tidings-system:tidings-operator-bounded"
"""An operator whose rights hold in some namespaces only; a test gives it them."""
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": [OPERATOR_USER, BOUNDED_USER]}, {"level": "None"}],
}


def dapr_crds() -> list[dict[str, Any]]:
    """Return Dapr's CRDs without their conversion webhook, since Dapr's control plane does not run here."""
    result = [
        yaml.safe_load((HERE / "data" / f"dapr-{item}.yaml").read_text())
        for item in ("subscription", "resiliency", "component")
    ]
    for entry in result:
        entry["spec"].pop("conversion", None)
    return result


@dataclass
class Cluster:
    """One API server with its etcd."""

    folder: Path
    ports: Ports
    audit: bool = True
    """Whether the API server writes down what operators do."""
    etcd_port: int = field(init=False)
    port: int = field(init=False)
    _stack: ExitStack = field(default_factory=ExitStack)
    _api: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.etcd_port, self.port = self.ports.take(), self.ports.take()
        programs = ensure("kube-apiserver", "etcd", report=print)
        self._programs = {name: str(path) for name, path in programs.items()}
        self.http = self._stack.enter_context(httpx2.Client(base_url=self.url, verify=False, timeout=60.0))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    def start(self) -> None:
        self._write_files()
        peer = self.ports.take()
        self._spawn(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{self.etcd_port}",
            f"--advertise-client-urls=http://127.0.0.1:{self.etcd_port}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )
        self.start_api()
        for definition in (*crds.definitions(), *dapr_crds()):
            self.apply(definition)
        self._until("all kinds are served", self._serves_all)

    def start_api(self) -> None:
        """Start the API server; what etcd holds is there again."""
        self._api = self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder / 'certs'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'sa.key'}",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            f"--audit-policy-file={self.folder / 'audit.yaml'}",
            f"--audit-log-path={self.audit_log}",
            "--max-requests-inflight=4000",
            "--max-mutating-requests-inflight=2000",
            "--v=0",
        )
        self._until("the API server is ready", self._is_ready)

    def stop_api(self) -> None:
        """Kill the API server, as a node's failure would."""
        if self._api:
            self._api.kill()
            self._api.wait()
            self._api = None

    def close(self) -> None:
        self._stack.close()

    def request(self, method: str, path: str, body: Any = None, *, token: str = ADMIN, **how: Any) -> Any:
        """Make a request; raise for anything but success."""
        headers = {"Authorization": f"Bearer {token}", **how.pop("headers", {})}
        if body is not None:
            how["content"] = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        response = self.http.request(method, path, headers=headers, **how)
        if response.is_error:
            raise httpx2.HTTPStatusError(response.text, request=response.request, response=response)
        return response.json()

    def apply(self, manifest: Mapping[str, Any], manager: str = "test") -> Any:
        """Apply any manifest server-side, as `kubectl apply --server-side` does."""
        headers = {"Content-Type": "application/apply-patch+yaml"}
        params = {"fieldManager": manager, "force": "true"}
        return self.request("PATCH", path_of(manifest), manifest, headers=headers, params=params)

    def get(self, path: str) -> Any:
        """Return an object or a list; None where there is none."""
        try:
            return self.request("GET", path)
        except httpx2.HTTPStatusError as error:
            if error.response.status_code == 404:
                return None
            raise

    def patch(self, path: str, patch: Mapping[str, Any]) -> Any:
        return self.request("PATCH", path, patch, headers={"Content-Type": "application/merge-patch+json"})

    def delete(self, path: str) -> None:
        self.request("DELETE", path)

    def kubeconfig(self, token: str) -> Path:
        """Write a kubeconfig that trusts this API server."""
        path = self.folder / f"kubeconfig-{token}"
        ca = base64.b64encode((self.folder / "certs" / "apiserver.crt").read_bytes()).decode()
        cluster = {"server": self.url, "certificate-authority-data": ca}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def _write_files(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        (self.folder / "sa.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )
        accounts = ((OPERATOR, OPERATOR_USER), (BOUNDED, BOUNDED_USER))
        tokens = [f'{token},{user},{user},"system:serviceaccounts"' for token, user in accounts]
        (self.folder / "tokens.csv").write_text("\n".join([f"{ADMIN},admin,1,system:masters", *tokens, ""]))
        policy = AUDIT if self.audit else {**AUDIT, "rules": [{"level": "None"}]}
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(policy))

    def _spawn(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self.folder / f"{name}.log").open("ab"))
        process = subprocess.Popen([self._programs[name], *arguments], stdout=log, stderr=log, cwd=self.folder)
        self._stack.callback(_end, process)
        return process

    def _until(self, what: str, check: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while not check():
            if time.monotonic() > deadline or (self._api and self._api.poll() is not None):
                log = (self.folder / "kube-apiserver.log").read_text(errors="replace")[-3000:]
                raise TimeoutError(f"not so, or not within {PATIENCE:.0f} s: {what}\n{log}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            answer = self.http.get("/readyz", headers={"Authorization": f"Bearer {ADMIN}"})
        except httpx2.TransportError:
            return False
        return bool(answer.status_code == 200)

    def _serves_all(self) -> bool:
        paths = [f"/apis/tidings.dev/v1alpha1/{kind.plural}" for kind in crds.KINDS]
        paths += ["/apis/dapr.io/v2alpha1/subscriptions", "/apis/dapr.io/v1alpha1/resiliencies"]
        paths.append("/apis/dapr.io/v1alpha1/components")
        headers = {"Authorization": f"Bearer {ADMIN}"}
        return all(self.http.get(path, headers=headers).status_code == 200 for path in paths)


@contextmanager
def running(folder: Path, ports: Ports, *, audit: bool = True) -> Iterator[Cluster]:
    """Run a cluster for as long as it is needed."""
    cluster = Cluster(folder, ports, audit)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


PLURALS = {
    "Secret": "secrets",
    "Namespace": "namespaces",
    "ConfigMap": "configmaps",
    "ServiceAccount": "serviceaccounts",
    "Service": "services",
    "Deployment": "deployments",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "CustomResourceDefinition": "customresourcedefinitions",
    "ValidatingWebhookConfiguration": "validatingwebhookconfigurations",
    "MutatingWebhookConfiguration": "mutatingwebhookconfigurations",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "EventSubscription": "eventsubscriptions",
    "EventType": "eventtypes",
    "EventReplay": "eventreplays",
    "Subscription": "subscriptions",
    "Resiliency": "resiliencies",
    "Component": "components",
    "Pod": "pods",
}


def path_of(manifest: Mapping[str, Any]) -> str:
    """Return the API path of an object."""
    version, metadata = manifest["apiVersion"], manifest["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = metadata.get("namespace", "")
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{inside}/{PLURALS[manifest['kind']]}/{metadata['name']}"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
