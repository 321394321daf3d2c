"""Building blocks of the three kinds: metadata, field types with their patterns, and a resource with its origin."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from tidings_plan.resources import durations
from tidings_plan.resources.findings import Finding, Location, Severity
from tidings_plan.resources.source_location import Origin

GROUP = "tidings.dev"
API_VERSION = f"{GROUP}/v1alpha1"


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A block of fields: camelCase in YAML, unknown fields rejected."""


_APP_ID = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z"
_MAJOR = r"^v[1-9][0-9]{0,3}\Z"
_ROUTE = r"^/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*\Z"
_TOPIC = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z"
_CHANNEL = r"^([A-Za-z0-9_-]|\{type\}|\{version\})+(\.([A-Za-z0-9_-]|\{type\}|\{version\})+)*\Z"
_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z"
_OPTIONAL_NAME = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?\Z"
_NAMESPACE = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z"
_OPTIONAL_NAMESPACE = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?\Z"
_INVITED = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?|\*)\Z"
_TYPE = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z"
_PATTERN = r"^(\*|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.\*)\Z"
_ATTRIBUTE = r"^[a-z0-9]{1,20}\Z"

# `\Z` instead of `$`: in Python, `$` also matches before a trailing newline. CRDs use Go's dialect and get `$`.
AppId = Annotated[str, Meta(pattern=_APP_ID, max_length=63)]
Duration = Annotated[str, Meta(pattern=durations.PATTERN, max_length=durations.MAX_LENGTH)]
Major = Annotated[str, Meta(pattern=_MAJOR, max_length=5)]
RoutePath = Annotated[str, Meta(pattern=_ROUTE, max_length=1024)]
Topic = Annotated[str, Meta(pattern=_TOPIC, max_length=249)]
ChannelTopic = Annotated[str, Meta(pattern=_CHANNEL, max_length=249)]
Name = Annotated[str, Meta(pattern=_NAME, max_length=253)]
OptionalName = Annotated[str, Meta(pattern=_OPTIONAL_NAME, max_length=253)]
Namespace = Annotated[str, Meta(pattern=_NAMESPACE, max_length=63)]
OptionalNamespace = Annotated[str, Meta(pattern=_OPTIONAL_NAMESPACE, max_length=63)]
Invited = Annotated[str, Meta(pattern=_INVITED, max_length=63)]
TypeName = Annotated[str, Meta(pattern=_TYPE, max_length=200)]
TypePattern = Annotated[str, Meta(pattern=_PATTERN, max_length=200)]
Attribute = Annotated[str, Meta(pattern=_ATTRIBUTE, max_length=20)]
Text = Annotated[str, Meta(max_length=1024)]
LongText = Annotated[str, Meta(max_length=16_384)]
NonEmpty = Annotated[str, Meta(min_length=1, max_length=1024)]
Expression = Annotated[str, Meta(min_length=1, max_length=4096)]
Retries = Annotated[int, Meta(ge=0, le=10_000)]
Positive = Annotated[int, Meta(ge=1, le=10_000)]
Rate = Annotated[float, Meta(ge=0.001, le=1_000_000)]

PATTERNS: Mapping[str, str] = {
    _APP_ID: "a Dapr app id: lower-case letters, digits and '-', such as kitchen",
    durations.PATTERN: "a duration such as 500ms, 30s, 1m30s or 2h",
    _MAJOR: "a major version such as v1 or v2",
    _ATTRIBUTE: "a CloudEvents attribute: lower-case letters and digits, such as subject",
    _ROUTE: "a path that begins with '/', such as /events/orders",
    _TOPIC: "a topic name: letters, digits, '_' and '-', with single dots between them",
    _CHANNEL: "a topic name: letters, digits, '_', '-', {type} and {version}, with single dots between them",
    _NAME: "a Kubernetes name: lower-case letters, digits, '-' and '.'",
    _OPTIONAL_NAME: "a Kubernetes name: lower-case letters, digits, '-' and '.'",
    # _NAMESPACE equals _APP_ID, which is listed above.
    _OPTIONAL_NAMESPACE: "a namespace: lower-case letters, digits and '-'",
    _INVITED: "a namespace, or '*' for all",
    _TYPE: "the name of a type: <domain>.<fact>, such as orders.orderConfirmed",
    _PATTERN: "a pattern: '*' or orders.*; name a single type in `type`",
}
"""Description of each pattern for error messages."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The Kubernetes metadata that plans use. Other metadata fields of a cluster are ignored."""

    name: Name
    namespace: Namespace = "default"
    labels: Annotated[dict[str, str], Meta(max_length=256)] = msgspec.field(default_factory=dict)
    annotations: Annotated[dict[str, str], Meta(max_length=256)] = msgspec.field(default_factory=dict)
    generation: int = 0
    creation_timestamp: Annotated[str, Meta(max_length=64)] = ""
    deletion_timestamp: Annotated[str, Meta(max_length=64)] = ""


Spec = TypeVar("Spec", bound=Part)


@dataclass(frozen=True, slots=True, eq=False)
class Resource(Generic[Spec]):
    """A resource: kind, metadata, spec and source location."""

    kind: str
    metadata: Metadata
    spec: Spec
    origin: Origin = field(default_factory=Origin)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name, unique within a kind."""
        return self.metadata.namespace, self.metadata.name

    @property
    def ref(self) -> str:
        """Reference for messages: `Kind/name`, or `Kind/namespace/name` outside the namespace `default`."""
        namespace = "" if self.metadata.namespace == "default" else f"{self.metadata.namespace}/"
        return f"{self.kind}/{namespace}{self.metadata.name}"

    def finding(
        self, severity: Severity, rule: str, message: str, fix: str = "", *, at: Location | tuple[Any, ...] = ()
    ) -> Finding:
        """Create a finding about this resource.

        Args:
            severity: Severity of the finding.
            rule: Stable id of the violated rule.
            message: The problem in one sentence.
            fix: How to fix it.
            at: A field path, or a location that is known already.

        """
        location = at if isinstance(at, Location) else self.origin.at(*at)
        return Finding(severity, rule, message, fix, location, self.ref)
