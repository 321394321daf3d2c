"""A stand-in for a Kubernetes API server, behind real HTTP: the lists and objects that the command line asks for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

PLURALS = {
    "EventType": "eventtypes",
    "EventSubscription": "eventsubscriptions",
    "Subscription": "subscriptions",
    "Resiliency": "resiliencies",
    "ConfigMap": "configmaps",
}


class FakeCluster:
    """Objects in memory, lists in pages of two so that paging is used; `refused` maps a path's end to a status."""

    page = 2

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.refused: dict[str, int] = {}
        self.asked: list[str] = []
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = cluster.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def put(self, manifests: Iterable[dict[str, Any]], namespace: str = "default", born: str = "") -> None:
        """Add objects to the cluster, with the fields that an API server sets."""
        for manifest in manifests:
            added = {"uid": "u-1", "generation": 1, "creationTimestamp": born or "2026-01-01T00:00:00Z"}
            metadata = {"namespace": namespace, **manifest["metadata"], **added, "managedFields": []}
            key = (PLURALS[manifest["kind"]], metadata["namespace"], metadata["name"])
            self.objects[key] = {**manifest, "metadata": metadata}

    def answer(self, target: str) -> tuple[int, dict[str, Any]]:
        """Answer a request for a list or an object."""
        self.asked.append(target)
        parts = urlsplit(target)
        refused = next((status for end, status in self.refused.items() if parts.path.endswith(end)), None)
        if refused:
            return refused, {"kind": "Status", "status": "Failure", "code": refused, "message": "refused"}
        steps = parts.path.strip("/").split("/")
        steps = steps[2:] if steps[0] == "api" else steps[3:]
        namespace = steps[1] if steps[0] == "namespaces" else None
        kind, *name = steps[2:] if namespace else steps
        if name:
            result = self.objects.get((kind, str(namespace), name[0]))
            return (200, result) if result else (404, {"kind": "Status", "code": 404})
        items = [item for key, item in self.objects.items() if key[0] == kind and namespace in (None, key[1])]
        query = parse_qs(parts.query)
        expected = dict(item.split("=") for item in query.get("labelSelector", []))
        items = [item for item in items if expected.items() <= item["metadata"].get("labels", {}).items()]
        start = int(query.get("continue", ["0"])[0])
        following = str(start + self.page) if start + self.page < len(items) else ""
        return 200, {"metadata": {"continue": following}, "items": items[start : start + self.page]}

    def kubeconfig(self, path: Path, namespace: str = "") -> Path:
        """Write a kubeconfig whose current context, `test`, is this cluster."""
        own = {"namespace": namespace} if namespace else {}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", **own}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path
