"""Where does the time of a request go? Samples of the server's stacks under load, by room and by function.

``python -m bench.profiling`` (``make profile``) runs the server as the benchmarks do and lets py-spy look
at it 500 times a second. The time of code that is not Python belongs to the function that called it. The
stacks are kept in the collapsed format that speedscope.app and flamegraph.pl read.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench import bodies, nginx, paced, server, streams, wrk
from bench.processes import Running, cores, fetch
from bench.results import QUICK

STACKS = QUICK / "stacks.txt"
RATE = 500
SHOWN = 25
STARTING = ("llm_server/__main__.py", "llm_server/cli")
"""They are on every stack, and cause nothing of it."""
HEADERS = {"content-type": "application/json", "authorization": bodies.KEY}
FRAME = re.compile(r"^(?P<name>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")


class Frame(NamedTuple):
    """A function on a stack."""

    name: str
    file: str

    @property
    def place(self) -> str:
        """Return the room of our own code, the package of others', or ``stdlib``."""
        parts = self.file.split("/")
        if "llm_server" in parts:
            inside = parts[parts.index("llm_server") + 1 :]
            return f"llm_server/{inside[0]}" if inside else "llm_server"
        if "site-packages" in parts:
            return parts[parts.index("site-packages") + 1]
        known = len(parts) > 1 and parts[0] and parts[0] not in sys.stdlib_module_names
        return parts[0] if known else "stdlib"


def parse(text: str) -> list[tuple[tuple[Frame, ...], int]]:
    """Return stacks, outermost function first, with their number of samples."""
    found = []
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        matches = [FRAME.match(part) for part in stack.split(";")]
        frames = tuple(Frame(match["name"], match["file"]) for match in matches if match)
        if frames:
            found.append((frames, int(count)))
    return found


def shares(found: Iterable[tuple[tuple[Frame, ...], int]]) -> dict[str, Counter[str]]:
    """Return samples by the room that caused them, by the place and by the function that was running.

    The room that caused a sample is that of our innermost function on the stack: what it calls is its time.
    """
    rooms: Counter[str] = Counter()
    places: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for frames, count in found:
        inside = [
            frame for frame in frames if frame.place.startswith("llm_server/") and frame.place not in STARTING
        ]
        rooms[inside[-1].place if inside else frames[-1].place] += count
        places[frames[-1].place] += count
        functions[f"{frames[-1].name} ({frames[-1].file})"] += count
    return {
        "by room, with what it calls": rooms,
        "by room and package, own time": places,
        "by function, own time": functions,
    }


def shown(title: str, counted: Counter[str]) -> str:
    """Return a table of shares."""
    total = counted.total() or 1
    lines = [f"{100 * count / total:6.1f} %  {name}" for name, count in counted.most_common(SHOWN)]
    return "\n".join([title, *lines])


def record(spy: str, ours: Running, seconds: int, path: Path) -> str:
    """Return the collapsed stacks of ``seconds`` of the server's life."""
    command = [spy, "record", "--pid", str(ours.pid), "--duration", str(seconds), "--rate", str(RATE)]
    ran = subprocess.run(
        [*command, "--format", "raw", "--output", str(path)], capture_output=True, text=True, check=False
    )
    if ran.returncode or not path.exists():
        sys.exit(f"py-spy failed (it needs root, or kernel.yama.ptrace_scope=0):\n{ran.stderr[-2000:]}")
    return path.read_text()


def load_whole(ours: Running, model: str, seconds: int, folder: Path) -> None:
    sent = wrk.script(folder, "profile", bodies.question(model, tools=[bodies.TOOL]), HEADERS)
    wrk.load(ours.url + bodies.CHAT, sent, connections=64, seconds=seconds, core=cores().load)


def load_streams(ours: Running, model: str, seconds: int) -> None:
    body = bodies.question(model, stream=True)
    request = streams.compose(ours.url, bodies.CHAT, body, HEADERS)
    streams.load(ours.url, request, connections=64, seconds=seconds, frames=100)


def profile(options: argparse.Namespace, folder: Path) -> str:
    """Run everything; return the collapsed stacks."""
    core = cores()
    kind, model = options.load.split("-")
    names = {"forward": f"openai/{bodies.OPENAI_MODEL}", "translated": f"anthropic/{bodies.ANTHROPIC_MODEL}"}
    upstream = (
        paced.paced(folder, core=core.load, frames=100, interval_s=0.01)
        if kind == "stream"
        else nginx.mock(folder, core=core.load)
    )
    make = server.full if options.full else server.bare
    with upstream as mock, server.serving("ours", make(mock.url, folder), folder, core=core.proxy) as ours:
        fetch(ours.url + bodies.CHAT, bodies.question(names[model]), HEADERS)  # what is only done once
        seconds = options.seconds + 3  # py-spy needs a moment to start
        arguments = (ours, names[model], seconds)
        if kind == "stream":
            busy = threading.Thread(target=load_streams, args=arguments)
        else:
            busy = threading.Thread(target=load_whole, args=(*arguments, folder))
        busy.start()
        text = record(options.spy, ours, options.seconds, folder / "stacks.txt")
        busy.join()
        return text


def main() -> int:
    """Print where the time goes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    loads = ["whole-forward", "whole-translated", "stream-forward", "stream-translated"]
    parser.add_argument("--load", choices=loads, default=loads[0])
    parser.add_argument("--full", action="store_true", help="with everything on; default: bare")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--spy", default="py-spy", help="the program")
    parser.add_argument("--output", type=Path, default=STACKS, help=f"default: {STACKS}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        text = profile(options, Path(folder))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text)
    for title, counted in shares(parse(text)).items():
        print(shown(f"{options.load}, {title}", counted))
    print(f"stacks: {options.output} (open it in https://speedscope.app)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
