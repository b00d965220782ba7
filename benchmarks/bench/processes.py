"""Processes that a benchmark starts, each on its core, and what they cost: proc(5). (Linux)"""

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
STARTS_WITHIN_S = 30.0
STOPS_WITHIN_S = 20.0
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where Debian keeps servers; these folders are not on every user's path."""


class Cores(NamedTuple):
    """The core that the measured proxy has to itself, and the one of load and upstream."""

    proxy: int
    load: int


@functools.cache  # as it was before this process bound itself to one of them
def cores() -> Cores:
    """Return the first and the second core that this process may use; the same one twice where it has one."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[min(1, len(usable) - 1)])


class Running(NamedTuple):
    """A process that was started, where it answers and what it said."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid


def program(name: str) -> str:
    """Return the path of ``name``; ends the script with the command that installs it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
    if found is None:
        sys.exit(f"{name} is not installed: sudo apt-get install --yes {name}")
    return found


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def address(url: str) -> tuple[str, int]:
    """Return host and port of a URL that names both."""
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


@contextlib.contextmanager
def started(
    command: Sequence[str], url: str, *, core: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run ``command`` on ``core`` until the block is left; what it prints goes to ``log``.

    Ends the script with the last lines of the log when the process is gone or does not listen in time.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program("taskset"), "-c", str(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
        )
    running = Running(process, url, log)
    try:
        await_listener(running)
        yield running
    finally:
        stop(process)


def await_listener(running: Running) -> None:
    """Return when the address accepts connections."""
    deadline = time.monotonic() + STARTS_WITHIN_S
    while running.process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(address(running.url), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    said = running.log.read_text(errors="replace")[-2000:]
    sys.exit(f"{running.process.args!r} does not listen at {running.url}:\n{said}")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the process, gently first."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tree(pid: int) -> list[int]:
    """Return ``pid`` and its descendants that live."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, children.read_text().split())
    return found


def parse_children_s(stat: str) -> float:
    """Return the CPU seconds, in a line of ``/proc/PID/stat``, of children that ended and were waited for."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / TICKS  # cutime and cstime: proc(5), fields 16 and 17


def own_cpu_s(pid: int) -> float:
    """Return user and system CPU seconds of all threads of a process, to the nanosecond.

    It is the sum of utime and stime, which proc(5) gives in steps of 10 ms. The number of another process's
    CPU clock is made as clock_getcpuclockid(3) of glibc does: ``MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)``.
    """
    return time.clock_gettime(~pid << 3 | 2)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds, user and system, that the tree of ``pid`` has used."""
    total = 0.0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            total += own_cpu_s(each) + parse_children_s(Path(f"/proc/{each}/stat").read_text())
    return total


def rss_mb(pid: int) -> float:
    """Return the resident memory of the tree of ``pid`` in 10**6 bytes; shared pages count for each."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return total * PAGE / 1e6


def open_files(pid: int) -> int:
    """Return how many file descriptors the tree of ``pid`` has open."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += len(os.listdir(f"/proc/{each}/fd"))  # noqa: PTH208  # names are enough
    return total


def fetch(url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Return status and body of one request, whatever the status."""
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
