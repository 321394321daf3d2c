"""The programs that Tidings runs next to services, in the tested versions.

`locate` finds one, `ensure` gets it: from PATH or the cache, else from its release, else built from source.
"""

from tidings_cli.programs.errors import ProgramError
from tidings_cli.programs.obtain import ensure
from tidings_cli.programs.pins import PROGRAMS, Program
from tidings_cli.programs.places import locate

__all__ = ["PROGRAMS", "Program", "ProgramError", "ensure", "locate"]
