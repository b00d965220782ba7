"""Every fault of the matrix, in every dialect, streamed or not: what the caller gets, and who was asked."""

import asyncio
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from llm_server.providers import http
from llm_server.providers.started import Started
from tests.end_to_end.asking import PATHS, Told, ask
from tests.end_to_end.faults import CASE, FAULTS, Fault
from tests.end_to_end.front import Front, fronting, provider
from tests.upstreams.cases import Form, load
from tests.upstreams.server import upstream, wants_stream
from tests.upstreams.upstream import Answer, Request, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

VENDORS = ("openai", "anthropic", "gemini", "cohere")
"""One for each upstream dialect."""
GOOD = "good"
LIMIT_S = 60.0
"""Of a hung request: no cell may come near."""

BAD_POOL = {
    "first_byte_timeout_s": 6.0,
    "idle_timeout_s": 6.0,
    "connect_timeout_s": 5.0,
    "breaker": {"enabled": False},
}
"""Short timeouts, and a breaker that does not notice how often this upstream fails."""
RETRY = {
    "throttled_base_s": 0.02,
    "transient_base_s": 0.02,
    "budget_floor_per_s": 1000,
    "attempt_timeout_s": 9,
}


WARM = "warm"
"""The model that is asked so that connections are idle: only then is there a short way."""
SLOWEST = "trickle without content"
"""What only an attempt's own time ends, with which there is no short way."""


RESENT = {"hung up", "reset"}
"""What the pool mends itself, once, on a connection that was idle."""
WAYS = ("ordinary", "short")
COURSES = [(way, fault) for way in WAYS for fault in FAULTS if (way, fault) != ("short", SLOWEST)]


class Cell(NamedTuple):
    """One cell of the matrix, which is asked for as a model of its own."""

    caller: str
    vendor: str
    form: Form
    fault: str

    @property
    def model(self) -> str:
        """The upstream's name for it: letters, digits and dots."""
        return f"{re.sub('[^a-z0-9]+', '-', self.fault.lower())}.{self.caller}.{self.form}"

    @property
    def provider(self) -> str:
        """Who fails."""
        return "gone" if FAULTS[self.fault].does is None else self.vendor

    @property
    def row(self) -> Fault:
        """What goes wrong."""
        return FAULTS[self.fault]


FORMS: tuple[Form, ...] = ("whole", "stream")
CELLS = [Cell(*each) for each in product(PATHS, VENDORS, FORMS, FAULTS)]


def model_of(request: Request) -> str:
    """Return the model that a request of any dialect names."""
    in_path = re.search(r"/models/([^/:]+):", request.path)
    return in_path[1] if in_path else str(request.json()["model"])


@dataclass(frozen=True)
class Matrix:
    """A server before one failing upstream of each dialect, and one that never fails."""

    front: Front
    bad: dict[str, Upstream]
    good: Upstream
    short: list[str]
    """Models that were asked by the short way."""
    goes_short: bool

    def asked(self, cell: Cell) -> tuple[int, int]:
        """Return how often the failing and the good upstream were asked for ``cell``."""
        bad = [model_of(each) for each in self.bad[cell.vendor].requests].count(cell.model)
        return bad, [model_of(each) for each in self.good.requests].count(f"{cell.vendor}.{cell.model}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def closed_port() -> AsyncIterator[int]:
    """A port that nobody listens on, kept from everybody else."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def failing(vendor: str, *, once: bool) -> Any:
    """Return what answers for ``vendor``: each model by its fault, ``once`` or always."""
    cells = {cell.model: cell for cell in CELLS if cell.vendor == vendor}
    seen: Counter[str] = Counter()

    def answer(request: Request) -> Answer:
        if model_of(request) == WARM:
            return load(vendor, "text", "whole")
        cell = cells[model_of(request)]
        seen[cell.model] += 1
        form: Form = "stream" if wants_stream(request) else "whole"
        assert form == cell.form
        if cell.row.does is None or (once and seen[cell.model] > 1):
            return load(vendor, "text", form)
        return cell.row.does(vendor, form)

    return answer


def well(request: Request) -> Answer:
    """Answer as an upstream that is healthy."""
    return load("anthropic", "text", "stream" if wants_stream(request) else "whole")


async def opened(stack: AsyncExitStack, gone: int, *, alone: bool, short: bool) -> Matrix:
    """Return the matrix: each cell has a route, with a healthy second target unless it is ``alone``.

    Attempts have a time of their own unless they are to go the ``short`` way.
    """
    asked = stack.enter_context(noted())
    bad = {v: await stack.enter_async_context(upstream(failing(v, once=alone))) for v in VENDORS}
    good = await stack.enter_async_context(upstream(well))
    providers = {v: provider(up, v, pool=BAD_POOL) for v, up in bad.items()}
    providers[GOOD] = provider(good, "anthropic")
    absent = provider(good, "openai", pool=BAD_POOL)
    providers["gone"] = {**absent, "base_url": f"http://127.0.0.1:{gone}/v1"}
    models = {
        f"{cell.vendor}.{cell.model}": [
            f"{cell.provider}/{cell.model}",
            *([] if alone else [f"{GOOD}/{cell.vendor}.{cell.model}"]),
        ]
        for cell in CELLS
    }
    retry = {name: value for name, value in RETRY.items() if not (short and name == "attempt_timeout_s")}
    front = await stack.enter_async_context(fronting(providers, models=models, retry=retry))
    return Matrix(front, bad, good, asked, short)


@contextmanager
def noted() -> Iterator[list[str]]:
    """Note the model of every call that is sent by the short way."""
    asked: list[str] = []

    class Noted(Started):
        def begin(self) -> None:
            asked.append(self._call.model)
            super().begin()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "Started", Noted)
        yield asked


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def matrix(closed_port: int, request: pytest.FixtureRequest) -> AsyncIterator[Matrix]:
    async with AsyncExitStack() as stack:
        yield await opened(stack, closed_port, alone=False, short=request.param == "short")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(closed_port: int, request: pytest.FixtureRequest) -> AsyncIterator[Matrix]:
    async with AsyncExitStack() as stack:
        yield await opened(stack, closed_port, alone=True, short=request.param == "short")


async def row(matrix: Matrix, fault: str) -> dict[Cell, Told]:
    """Ask for all cells of a fault at once; with an idle connection for each where they go the short way."""
    cells = [cell for cell in CELLS if cell.fault == fault]
    warm = [cell.vendor for cell in cells] if matrix.goes_short else []
    await asyncio.gather(*(ask(matrix.front, "openai", f"{each}/{WARM}", stream=False) for each in warm))
    matrix.short.clear()
    async with asyncio.timeout(LIMIT_S):
        told = await asyncio.gather(
            *(
                ask(matrix.front, cell.caller, f"{cell.vendor}.{cell.model}", stream=cell.form == "stream")
                for cell in cells
            )
        )
    assert {cell.model for cell in cells if cell.row.does} <= set(matrix.short) or not matrix.goes_short
    return dict(zip(cells, told, strict=True))


TEXT = load("anthropic", "text").answer["text"]


@pytest.mark.parametrize(("matrix", "fault"), COURSES, indirect=["matrix"])
async def test_with_a_healthy_second_target(matrix: Matrix, fault: str) -> None:
    for cell, told in (await row(matrix, fault)).items():
        asked = matrix.asked(cell)
        again = matrix.goes_short and fault in RESENT
        reached = 0 if cell.row.does is None else 2 if again else 1
        match cell.row.outcome(cell.form):
            case "moved on":
                assert (told.status, told.text, told.error, told.ended) == (200, TEXT, "", True), cell
                assert asked == (reached, 1), cell
                (first, why), (second, end) = told.attempted
                assert first == f"{cell.provider}/{cell.model}", cell
                assert why.removeprefix("error=") in cell.row.kinds, cell
                assert (second, end) == (f"{GOOD}/{cell.vendor}.{cell.model}", "ok"), cell
                assert told.headers["x-llm-server-attempts"] == "2", cell
            case "broken":
                assert (told.status, told.ended, asked) == (200, False, (1, 0)), cell
                assert told.text, cell
                assert told.error, cell
                assert told.text != load(cell.vendor, CASE).answer["text"], cell
            case "answered":
                assert (told.status, told.error, told.ended) == (200, "", True), cell
                assert told.text == load(cell.vendor, CASE).answer["text"], cell
                assert (asked, told.attempted) == ((1, 0), []), cell


@pytest.mark.parametrize(
    ("alone", "fault"), [(way, name) for way, name in COURSES if FAULTS[name].does], indirect=["alone"]
)
async def test_alone_a_target_that_fails_once_is_asked_again_where_that_helps(
    alone: Matrix, fault: str
) -> None:
    for cell, told in (await row(alone, fault)).items():
        outcome = cell.row.outcome(cell.form)
        asked, _ = alone.asked(cell)
        if outcome == "moved on" and cell.row.again:
            expected = load(cell.vendor, "text").answer["text"]
            assert (told.status, told.text, told.error, told.ended) == (200, expected, "", True), cell
            assert asked == 2, cell
            # The pool itself sends again what a kept connection took and never answered.
            assert [end for _, end in told.attempted][-1:] in ([], ["ok"]), cell
        elif outcome == "moved on":
            assert told.status in {429, 504}, cell
            assert (asked, told.attempted) == (1, []), cell
            assert (told.headers.get("retry-after") == "70") == ("retry-after" in fault), cell
        else:
            assert (told.status, told.ended, asked) == (200, outcome == "answered", 1), cell


@pytest.mark.parametrize("alone", WAYS, indirect=True)
async def test_alone_a_target_that_is_not_there_is_tried_as_often_as_allowed(alone: Matrix) -> None:
    for cell, told in (await row(alone, "refused")).items():
        assert told.status == 502, cell
        assert [end for _, end in told.attempted] == ["error=upstream_unreachable"] * 3, cell
