"""The server with an eye inside: on SIGUSR1 it writes a census of its objects. The product is not changed.

``python -m bench.watched FILE serve ...`` runs ``llm-server serve ...``. The census is JSON: tasks that are
not done, objects that the collector tracks, also by type, and the entries of all containers together, in
which a map that grows shows whatever it holds.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, cast

CONTAINERS = (dict, list, set, deque)


def census() -> dict[str, Any]:
    """Count what lives after a collection."""
    gc.collect()
    objects = gc.get_objects()
    types = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in objects)
    return {
        "tasks": sum(isinstance(each, asyncio.Task) and not each.done() for each in objects),
        "objects": len(objects),
        "entries": sum(map(len, containers(objects))),
        "types": dict(types.most_common(300)),
    }


def containers(objects: Iterable[object]) -> Iterator[Sized]:
    """Yield every container: those that the collector tracks, and the dictionaries that these refer to.

    CPython up to 3.13 does not track a dictionary that holds only numbers and texts: Objects/dictobject.c,
    ``MAINTAIN_TRACKING``.
    """
    seen = set()
    for each in objects:
        if type(each) in CONTAINERS:
            yield cast(Sized, each)
        for referred in gc.get_referents(each):
            if type(referred) is dict and not gc.is_tracked(referred) and id(referred) not in seen:
                seen.add(id(referred))
                yield referred


def take(pid: int, path: Path) -> dict[str, Any]:
    """Ask the process ``pid``, which runs this module with ``path``, for a census; return it."""
    path.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + 30
    while not path.exists():
        if time.monotonic() > deadline:
            sys.exit("the server took no census")
        time.sleep(0.05)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def main() -> None:
    """Run the server; the census goes to a new file that is renamed, so that a reader sees it whole."""
    path = Path(sys.argv.pop(1))

    def write(*_: object) -> None:
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(census()))
        unfinished.rename(path)

    signal.signal(signal.SIGUSR1, write)
    from llm_server.cli import main as command

    command()


if __name__ == "__main__":
    main()
