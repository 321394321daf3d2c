"""Started in place of each process: asks the kernel to end it with its parent, then becomes it.

A file of its own, run by `python -I -S`, because it must not import anything slow: it costs 20 ms per process.
`prctl` belongs to Linux; elsewhere a killed `tidings up` leaves processes that the next start clears away.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1
NOBODY_ELSE = "-"
"""In place of an account's name: stay who we are."""


def main(parent: str, user: str, program: str, *arguments: str) -> None:
    """Become `program`, under the account `user`, unless `parent` (a pid) is gone already."""
    if user != NOBODY_ELSE:
        _become(user)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after a change of account, which forgets it
    if os.getppid() != int(parent):
        sys.exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored stays so in the program
    try:
        os.execvp(program, [program, *arguments])  # noqa: S606  # this is the point
    except OSError as error:
        sys.exit(f"cannot start {program}: {error.strerror}")


def _become(user: str) -> None:
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


if __name__ == "__main__":
    main(*sys.argv[1:])
