"""The command line `tidings`. Commands are imported when they are called, so that `--help` answers at once."""

from tidings.cli.commands import kubectl, main

__all__ = ["kubectl", "main"]
