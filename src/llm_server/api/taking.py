"""Whether a client takes what is sent to it."""

import math
import struct
import sys
import time
from asyncio import WriteTransport

if sys.platform != "win32":
    import fcntl
    import termios


class Taking:
    """How much of what was written a client has not taken, and for how long that has not become less.

    What the system holds of it counts too: the system takes more only when a good part of that is gone, at
    which a slow client may be for minutes.
    """

    __slots__ = ("_left", "_looked_s", "_since_s", "_transport")

    def __init__(self, transport: WriteTransport) -> None:
        self._transport = transport
        self._left = 0
        self._since_s = self._looked_s = -math.inf

    def begin(self) -> None:
        """Watch from now on."""
        self._left = self._untaken()
        self._since_s = self._looked_s = time.perf_counter()

    def resting_s(self, at_most_s: float) -> float:
        """Return for how many seconds nothing was taken.

        Who asks must ask again within ``at_most_s``, or watching begins anew.
        """
        now_s, left = time.perf_counter(), self._untaken()
        if left < self._left or now_s - self._looked_s > at_most_s:
            self._since_s = now_s
        self._left, self._looked_s = left, now_s
        return now_s - self._since_s

    def _untaken(self) -> int:
        return self._transport.get_write_buffer_size() + _unacknowledged(self._transport)


def _unacknowledged(transport: WriteTransport) -> int:
    """Return the bytes that the peer's system has not got yet, 0 where that cannot be known.

    See SIOCOUTQ in tcp(7) of Linux, which is TIOCOUTQ.
    """
    sock = transport.get_extra_info("socket")
    if sys.platform == "win32" or sock is None:
        return 0
    try:
        told = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # it is closed, or the system does not tell
        return 0
    return int(struct.unpack("i", told)[0])
