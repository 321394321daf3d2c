"""The `tidings` command line. Commands are imported when called, which keeps `--help` fast."""

from tidings_cli.commands import kubectl, main

__all__ = ["kubectl", "main"]
