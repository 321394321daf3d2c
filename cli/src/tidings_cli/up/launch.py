"""Launcher of each process: asks the kernel to kill the process with its parent, then executes the program.

It is a separate file for `python -I -S`, because it must not import anything slow: it costs 20 ms per process.
`prctl` exists on Linux only; elsewhere a killed `tidings up` leaves orphaned processes, which the next start ends.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1
CURRENT_USER = "-"
"""Placeholder for the user argument: keep the current user."""


def main(parent: str, user: str, program: str, *arguments: str) -> None:
    """Execute `program` under the account `user`; exit if the process `parent` has ended."""
    if user != CURRENT_USER:
        account = pwd.getpwnam(user)
        os.initgroups(user, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which resets it
    if os.getppid() != int(parent):
        sys.exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores SIGPIPE, and exec would pass that on
    try:
        os.execvp(program, [program, *arguments])  # noqa: S606  # this is the point
    except OSError as error:
        sys.exit(f"cannot start {program}: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
