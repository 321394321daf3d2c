"""The audit distinguishes verified packages from those that were never looked up."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOUND = "jinja2 3.1.2 PYSEC-2024-1 3.1.3"
# What the played pip-audit says of the canary and of the lock, and how it ends.
CASES = [
    (("No known vulnerabilities found", 0), ("", 0), 3, "NOT AUDITED"),
    (("no route to host", 1), ("", 0), 3, "NOT AUDITED"),
    ((FOUND, 1), ("No known vulnerabilities found", 0), 0, "No known vulnerabilities found"),
    ((FOUND, 1), ("pyyaml 5.3 PYSEC-2021-142 5.4", 1), 1, "pyyaml"),
    ((FOUND, 1), ("msgspec could not be audited", 1), 1, "msgspec"),
]


@pytest.mark.parametrize(("canary", "lock", "ends", "expected_text"), CASES)
def test_every_outcome_has_its_exit_code(
    tmp_path: Path, canary: tuple[str, int], lock: tuple[str, int], ends: int, expected_text: str
) -> None:
    played = tmp_path / "pip-audit"
    played.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--strict*--require-hashes*requirements.lock) echo "{lock[0]}"; exit {lock[1]};; esac\n'
        f'echo "{canary[0]}"; exit {canary[1]}\n'
    )
    played.chmod(0o755)
    environment = {**os.environ, "PIP_AUDIT": str(played)}
    audit = subprocess.run([ROOT / ".ci/audit"], env=environment, capture_output=True, text=True, check=False)
    assert (audit.returncode, expected_text in audit.stdout) == (ends, True), audit
    dated = re.search(r"advisory data: PyPI's, as of \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", audit.stdout)
    assert bool(dated) is (ends != 3), "what was looked up has a date"


def test_continuous_integration_audits_and_lists_the_content_of_images() -> None:
    commands = (ROOT / ".ci/run").read_text()
    assert ".ci/audit" in commands
    assert "make sbom" in commands
