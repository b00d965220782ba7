"""What the system lets a process have: enough open files for the connections that it is to hold."""

import ctypes
import logging
import sys

_log = logging.getLogger("llm_server")

ENOUGH = 1_048_576
"""Open files beyond which more are of no use: some systems give a thousand times as many."""
FEW = 4096
"""Open files with fewer than which a server of streams is likely to run out: each stream takes two."""


LARGE_BYTES = 1024 * 1024
"""Size from which on memory goes back to the system when it is free: large request bodies."""
_M_MMAP_THRESHOLD = -3
"""See mallopt(3)."""


def give_memory_back() -> None:
    """Let large blocks of memory go back to the system when they are freed, where the C library can do that.

    glibc begins so and raises the bound to the largest block that it has seen, up to 32 MB: after bodies of
    20 MB, eight at once, the process kept 415 MB on the lane and 717 through ASGI, and now 165 and 73. Asking
    the system each time costs a third more for such a body, and nothing for one below the bound.
    """
    if sys.platform == "win32":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


def raise_open_files() -> None:
    """Raise the process's limit on open files as far as it may by itself, and say so in the log.

    A shell's usual limit is 1,024, at which the server would refuse the 512th stream.
    """
    if sys.platform == "win32":
        return  # has no such limit
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:  # macOS has a lower bound of its own
            _log.warning("The limit of %d open files could not be raised to %d: %s.", soft, wanted, error)
            wanted = soft
        else:
            _log.info("The limit on open files is raised from %d to %d.", soft, wanted)
        if wanted < FEW:
            _log.warning("Only %d files may be open at once, two for each stream; see `ulimit -Hn`.", wanted)
