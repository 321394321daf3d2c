"""Who may change something, and as whom it is written down: a token, a proxy's word.

The archive knows no passwords. `ARCHIVE_TOKEN` is asked of whoever changes something; `ARCHIVE_USER_HEADER` names the
header in which an authenticating proxy says who it let through. A proxy that sends both is believed by the token;
with the header alone, whoever reaches the archive past the proxy can write any name into it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from pydantic import SecretStr

from tidings.web.guard import SAFE
from tidings_archive.settings import ArchiveSettings, settings

LONGEST_NAME = 200
"""Characters of a name in the audit."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: their name where a proxy says it, and what is missing for them to change something."""

    name: str | None
    missing: str | None

    def deciding(self, said: str) -> str:
        """The name under which a change is written down: the proxy's word, else what the visitor says.

        Raises:
            HTTPException: 401, the visitor may not change anything.

        """
        if self.missing:
            raise HTTPException(HTTPStatus.UNAUTHORIZED, self.missing, headers={"WWW-Authenticate": "Bearer"})
        return self.name or said


def admission(chosen: Callable[[], ArchiveSettings]) -> Callable[[Request], None]:
    """Return the check that every change passes before its body is read; a dry run changes nothing.

    What it takes for a dry run and the API does not, the API asks again: see `Visitor.deciding`.
    """

    def admit(request: Request) -> None:
        if request.method not in SAFE and request.query_params.get("dryRun") != "true":
            visitor(request, chosen()).deciding("")

    return admit


def visitor(request: Request, chosen: Annotated[ArchiveSettings, Depends(settings)]) -> Visitor:
    """Who asks; a name without the token, where one is asked for, is nobody's."""
    if chosen.token and not _brings(request, chosen.token):
        hint = f" Get it with: {chosen.token_hint}" if chosen.token_hint else ""
        return Visitor(None, f"the token that ARCHIVE_TOKEN holds is needed (Authorization: Bearer …).{hint}")
    said = request.headers.get(chosen.user_header, "")[:LONGEST_NAME] if chosen.user_header else ""
    if chosen.user_header and not said and not chosen.token:
        return Visitor(None, f"sign in first: no proxy says in {chosen.user_header} who this is")
    return Visitor(said or None, None)


def _brings(request: Request, token: SecretStr) -> bool:
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    wanted = token.get_secret_value().encode()
    return scheme.lower() == "bearer" and secrets.compare_digest(sent.strip().encode(), wanted)


CurrentVisitor = Annotated[Visitor, Depends(visitor)]
