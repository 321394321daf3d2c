"""Roles of clients, by token or by the user name that a proxy provides.

The archive stores no passwords. `ARCHIVE_TOKEN` is required to change something; `ARCHIVE_VIEWER_TOKEN`, if it is set,
to read. `ARCHIVE_USER_HEADER` names the header in which an authenticating proxy passes the user; `ARCHIVE_OPERATORS`
lists the users who may change something. Set the token together with the header: with the header alone, clients that
bypass the proxy can forge names. An archive serves one namespace: its tokens and users have rights in no other one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Depends, HTTPException, Request
from pydantic import SecretStr

from tidings.web.guard import SAFE
from tidings_archive.settings import ArchiveSettings, settings

LONGEST_NAME = 200
"""Characters of a name in the audit."""


Role = Literal["operator", "viewer", "none"]
"""`operator` may read, replay and discard; `viewer` may read; `none` may do nothing."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A client: its user name where a proxy provides it, its role, and what it lacks to change something."""

    name: str | None
    role: Role
    missing: str | None

    def deciding(self, claimed: str) -> str:
        """Return the name for the audit log of a change: the proxy's, otherwise the claimed one.

        Raises:
            HTTPException: 401, the visitor may not change anything; 403, a viewer.

        """
        if self.missing:
            status = HTTPStatus.FORBIDDEN if self.role == "viewer" and self.name else HTTPStatus.UNAUTHORIZED
            raise HTTPException(status, self.missing, headers={"WWW-Authenticate": "Bearer"})
        return self.name or claimed

    def reading(self) -> None:
        """Check that the visitor may read.

        Raises:
            HTTPException: 401, it has no role.

        """
        if self.role == "none":
            detail = self.missing or "a token is needed (Authorization: Bearer …)"
            raise HTTPException(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})


def admission(chosen: Callable[[], ArchiveSettings]) -> Callable[[Request], None]:
    """Return the check that every change passes before its body is read. A dry run changes nothing.

    The API repeats the check, because it decides what a dry run is: see `Visitor.deciding`.
    """

    def admit(request: Request) -> None:
        if request.method not in SAFE and request.query_params.get("dryRun") != "true":
            visitor(request, chosen()).deciding("")

    return admit


def reader(request: Request, chosen: Annotated[ArchiveSettings, Depends(settings)]) -> None:
    """Refuse a client without a role."""
    visitor(request, chosen).reading()


def visitor(request: Request, chosen: Annotated[ArchiveSettings, Depends(settings)]) -> Visitor:
    """Return who asks, and with which role. A user name counts only together with a required token."""
    name = request.headers.get(chosen.user_header, "")[:LONGEST_NAME] if chosen.user_header else ""
    is_operator = chosen.token is None or _has_token(request, chosen.token)
    if not is_operator:
        hint = f" Get it with: {chosen.token_hint}" if chosen.token_hint else ""
        missing = f"the token that ARCHIVE_TOKEN holds is needed (Authorization: Bearer …).{hint}"
        is_viewer = chosen.viewer_token is None or _has_token(request, chosen.viewer_token)
        return Visitor(None, "viewer" if is_viewer else "none", missing)
    if chosen.user_header and not name and not chosen.token:
        return Visitor(None, "viewer", f"sign in first: no proxy provides a user in {chosen.user_header}")
    if name and chosen.operators and name not in chosen.operators:
        return Visitor(
            name, "viewer", f"{name} is a viewer: ARCHIVE_OPERATORS lists the users who may change something"
        )
    return Visitor(name or None, "operator", None)


def _has_token(request: Request, token: SecretStr) -> bool:
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    wanted = token.get_secret_value().encode()
    return scheme.lower() == "bearer" and secrets.compare_digest(sent.strip().encode(), wanted)


CurrentVisitor = Annotated[Visitor, Depends(visitor)]
