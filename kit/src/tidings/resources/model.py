"""What the three kinds share: metadata, field types with their rules, and a resource with its origin."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from tidings.resources import durations
from tidings.resources.findings import Finding, Location, Severity
from tidings.resources.origin import Origin

GROUP = "tidings.dev"
API_VERSION = f"{GROUP}/v1alpha1"


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A block of fields: camelCase in YAML, unknown fields refused."""


AppId = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Duration = Annotated[str, Meta(pattern=durations.PATTERN)]
Major = Annotated[str, Meta(pattern=r"^v[1-9][0-9]*$")]
RoutePath = Annotated[str, Meta(pattern=r"^/[^\s?#]*$")]
Topic = Annotated[str, Meta(pattern=r"^[A-Za-z0-9{][A-Za-z0-9._{}-]*$", max_length=249)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Attribute = Annotated[str, Meta(pattern=r"^[a-z0-9]{1,20}$")]
NonEmpty = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0)]

PATTERNS: Mapping[str, str] = {
    r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$": "a Dapr app id: lower-case letters, digits and '-', such as kitchen",
    durations.PATTERN: "a duration such as 500ms, 30s, 1m30s or 2h",
    r"^v[1-9][0-9]*$": "a major version such as v1 or v2",
    r"^[a-z0-9]{1,20}$": "a CloudEvents attribute: lower-case letters and digits, such as subject",
    r"^/[^\s?#]*$": "a path that begins with '/', such as /events/orders",
    r"^[A-Za-z0-9{][A-Za-z0-9._{}-]*$": "a topic name: letters, digits, '.', '_' and '-'",
    r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$": "a Kubernetes name: lower-case letters, digits, '-' and '.'",
}
"""What each pattern means, for people: a regular expression is no error message."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Kubernetes metadata, as far as a plan looks at it; a cluster's other fields are let through."""

    name: Name
    namespace: NonEmpty = "default"
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""


Spec = TypeVar("Spec", bound=Part)


@dataclass(frozen=True, slots=True, eq=False)
class Resource(Generic[Spec]):
    """One resource: its kind, metadata and spec, and where it was written."""

    kind: str
    metadata: Metadata
    spec: Spec
    origin: Origin = field(default_factory=Origin)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name: unique within a kind."""
        return self.metadata.namespace, self.metadata.name

    @property
    def ref(self) -> str:
        """`Kind/name`, with the namespace where it is not `default`: how messages name a resource."""
        namespace = "" if self.metadata.namespace == "default" else f"{self.metadata.namespace}/"
        return f"{self.kind}/{namespace}{self.metadata.name}"

    def finding(
        self, severity: Severity, rule: str, message: str, mend: str = "", *, at: Location | tuple[Any, ...] = ()
    ) -> Finding:
        """Make a finding about this resource, at a field (a path of steps) or at a known place."""
        location = at if isinstance(at, Location) else self.origin.at(*at)
        return Finding(severity, rule, message, mend, location, self.ref)
