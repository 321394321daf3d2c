"""Started in place of each process: asks the kernel to end it with its parent, then becomes it.

A file of its own, run by `python -I -S`, because it must not import anything slow: it costs 20 ms per process.
`prctl` belongs to Linux; elsewhere a killed `tidings up` leaves processes that the next start clears away.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: str, program: str, *arguments: str) -> None:
    """Become `program`, unless `parent` (a pid) is gone already."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415  # only there, and it takes half of this file's time

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored stays so in the program
    try:
        os.execvp(program, [program, *arguments])  # noqa: S606  # this is the point
    except OSError as error:
        sys.exit(f"cannot start {program}: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
