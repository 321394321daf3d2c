"""`tidings forget`: destroy a person's key, so that their personal data in events is unreadable wherever it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidings.errors import DefinitionError
from tidings.subject_keys import KEPT, KeyFile
from tidings_cli import output
from tidings_cli.archive import Yes, confirm
from tidings_cli.output import refusal

Subject = Annotated[str, typer.Argument(help="The person's pseudonym, which their events carry as `datasubject`.")]
Keys = Annotated[Path, typer.Option(envvar="TIDINGS_KEYS", help="File with the keys that the services use.")]


def forget(subject: Subject, keys: Keys, *, yes: Yes = False) -> None:
    """Destroy a person's key for good.

    Events with personal data of this person stay, and can be replayed; their personal fields read `***`. What services
    have stored in plain text is not affected: delete it there. Exit code 1 if there is no key of this person.
    """
    if not keys.is_file():
        raise refusal(f"{keys} does not exist: name the file that the services use (TIDINGS_KEYS)")
    confirm(f"Destroy the key of {subject} in {keys}? This cannot be undone.", yes=yes)
    try:
        existed = KeyFile(keys).destroy(subject)
    except DefinitionError as error:
        raise refusal(str(error)) from error
    if not existed:
        raise refusal(f"{keys} had no key of {subject}; from now on, none will be made")
    output.console().print(f"{subject} is forgotten. Running services notice within {KEPT:.0f} seconds.", markup=False)
