"""Roles of clients, by token or by the user name that a proxy provides.

The archive stores no passwords. `ARCHIVE_TOKEN` is required to change something; `ARCHIVE_VIEWER_TOKEN`, if it is set,
to read. `ARCHIVE_USER_HEADER` names the header in which an authenticating proxy passes the user; `ARCHIVE_OPERATORS`
lists the users who may change something, and `ARCHIVE_PERSONAL_READERS` those of them who may read personal data. Set
the token together with the header: with the header alone, clients that bypass the proxy can forge names. An archive
serves one namespace: its tokens and users have rights in no other one.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Depends, HTTPException, Request
from pydantic import SecretStr

from tidings.web.guard import SAFE
from tidings_archive.settings import ArchiveSettings, settings

MAX_NAME_LENGTH = 200
"""Largest number of characters of a name in the audit log."""


Role = Literal["operator", "viewer", "none"]
"""`operator` may read, replay and discard; `viewer` may read; `none` may do nothing."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client: its user name where a proxy provides it, its role, and what it lacks to change something.

    `reads_personal` is True if it may read personal data in plain text.
    """

    name: str | None
    role: Role
    missing: str | None
    reads_personal: bool = False

    def authorize_change(self, claimed: str) -> str:
        """Return the name for the audit log of a change: the proxy's, otherwise the claimed one.

        Raises:
            HTTPException: 401 without sufficient credentials; 403 for a signed-in viewer.

        """
        if self.missing:
            status = HTTPStatus.FORBIDDEN if self.role == "viewer" and self.name else HTTPStatus.UNAUTHORIZED
            raise HTTPException(status, self.missing, headers={"WWW-Authenticate": "Bearer"})
        return self.name or claimed

    def authorize_personal(self) -> str:
        """Return the user's name for the audit log of a reading of personal data.

        Raises:
            HTTPException: 403 for all other clients.

        """
        if not self.reads_personal or self.name is None:
            detail = "ARCHIVE_PERSONAL_READERS lists the users of ARCHIVE_USER_HEADER who may read personal data"
            raise HTTPException(HTTPStatus.FORBIDDEN, detail)
        return self.name

    def authorize_read(self) -> None:
        """Check that the client may read.

        Raises:
            HTTPException: 401 without a role.

        """
        if self.role == "none":
            detail = self.missing or "a token is needed (Authorization: Bearer …)"
            raise HTTPException(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})


def admission(chosen: Callable[[], ArchiveSettings]) -> Callable[[Request], None]:
    """Return the check that every change passes before its body is read. A dry run changes nothing.

    The API repeats the check, because it decides what a dry run is: see `Client.authorize_change`.
    """

    def admit(request: Request) -> None:
        if request.method not in SAFE and request.query_params.get("dryRun") != "true":
            identify_client(request, chosen()).authorize_change("")

    return admit


def require_reader(request: Request, chosen: Annotated[ArchiveSettings, Depends(settings)]) -> None:
    """Reject a client without a role."""
    identify_client(request, chosen).authorize_read()


def identify_client(request: Request, chosen: Annotated[ArchiveSettings, Depends(settings)]) -> Client:
    """Return the client of a request and its role. A user name counts only together with a required token."""
    name = request.headers.get(chosen.user_header, "")[:MAX_NAME_LENGTH] if chosen.user_header else ""
    is_operator = chosen.token is None or _has_token(request, chosen.token)
    if not is_operator:
        hint = f" Get it with: {chosen.token_hint}" if chosen.token_hint else ""
        missing = f"the token that ARCHIVE_TOKEN holds is needed (Authorization: Bearer …).{hint}"
        is_viewer = chosen.viewer_token is None or _has_token(request, chosen.viewer_token)
        return Client(None, "viewer" if is_viewer else "none", missing)
    if chosen.user_header and not name and not chosen.token:
        return Client(None, "viewer", f"sign in first: no proxy provides a user in {chosen.user_header}")
    if name and chosen.operators and name not in chosen.operators:
        return Client(name, "viewer", f"{name} is a viewer: ARCHIVE_OPERATORS lists the users who may change something")
    return Client(name or None, "operator", None, name in chosen.personal_readers)


def _has_token(request: Request, token: SecretStr) -> bool:
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    expected = token.get_secret_value().encode()
    return scheme.lower() == "bearer" and secrets.compare_digest(sent.strip().encode(), expected)


CurrentClient = Annotated[Client, Depends(identify_client)]
