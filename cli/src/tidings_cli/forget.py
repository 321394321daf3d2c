"""`tidings forget`: destroy a person's key, so that their personal data is unreadable wherever it is kept."""

from pathlib import Path
from typing import Annotated

import typer

from tidings.conventions import TIDINGS_KEYS
from tidings.errors import DefinitionError
from tidings.subject_keys import KEPT, KeyFile
from tidings_cli import output
from tidings_cli.archive import Archive, Yes, confirm, me
from tidings_cli.output import refusal
from tidings_cli.up.folder import RUN_DIR, RunFolder

Subject = Annotated[str, typer.Argument(help="The person's pseudonym, which their events carry as `datasubject`.")]
Keys = Annotated[
    Path | None,
    typer.Option(
        envvar=TIDINGS_KEYS, help="File with the keys that the services use; by default that of the local run."
    ),
]
RunDir = Annotated[Path, typer.Option("--run-dir", help="Folder of the local run.")]
Url = Annotated[
    str, typer.Option("--archive", help="URL of an archive that has the keys, such as the one of a cluster.")
]


def forget(
    subject: Subject, *, keys: Keys = None, run_dir: RunDir = Path(RUN_DIR), archive: Url = "", yes: Yes = False
) -> None:
    """Destroy a person's key irreversibly.

    Events and documents about this person remain, and events can be replayed, but their personal fields read `***`.
    The archive publishes `tidings.subjectForgotten`, at its next start if it is not running now. Exit code 1 if
    there is no key of this person.
    """
    if not subject.isprintable():
        raise refusal(f"{subject!r} is no pseudonym: it has characters that no event can have")
    file = keys or RunFolder(run_dir).keys
    if not archive and not file.is_file():
        raise refusal(
            f"{file} does not exist: name the file that the services use (--keys, TIDINGS_KEYS), the folder of the run "
            "(--run-dir), or an archive (--archive)"
        )
    confirm(f"Destroy the key of {subject} in {archive or file}? This cannot be undone.", yes=yes)
    try:
        if archive:
            existed = Archive(archive).post("/subjects/forget", {"subject": subject, "by": me()})["existed"]
        else:
            existed = KeyFile(file).destroy(subject)
    except DefinitionError as error:
        raise refusal(str(error)) from error
    if not existed:
        raise refusal(f"{archive or file} had no key of {subject}; from now on, none will be made")
    output.console().print(f"{subject} is forgotten. Running services notice within {KEPT:.0f} seconds.", markup=False)
