"""Open-loop arrivals: requests come when they come, however the server fares, in three classes of urgency."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import uvloop

from bench.client import Answer, Client
from bench.figures import percentile
from bench.results import Goal

CLASSES = {"interactive": 0.2, "default": 0.3, "batch": 0.5}
"""Share of the arrivals. At three times the capacity the first class alone fills 60 % of it."""
PATIENCE_S = 2.0
"""An answer that comes later counts for nothing."""
REFUSED = (429, 503, 529)
KNOWN = (200, *REFUSED)


class Arrival(NamedTuple):
    """One request and what became of it; ``at_s`` counts from the beginning."""

    at_s: float
    kind: str
    answer: Answer

    @property
    def good(self) -> bool:
        return self.answer.status == 200 and self.answer.took_s <= PATIENCE_S


def schedule(rate: float, seconds: float, seed: int) -> list[tuple[float, str]]:
    """Return Poisson arrivals: when each comes and of which class it is."""
    chance, at, found = random.Random(seed), 0.0, []
    while (at := at + chance.expovariate(rate)) < seconds:
        found.append((at, chance.choices(list(CLASSES), list(CLASSES.values()))[0]))
    return found


async def _arrive(
    url: str, requests: Mapping[str, bytes], plan: Sequence[tuple[float, str]]
) -> list[Arrival]:
    client, found = Client(url), []
    began = time.perf_counter()

    async def one(at_s: float, kind: str) -> None:
        found.append(Arrival(at_s, kind, await client.ask(requests[kind])))

    async with asyncio.TaskGroup() as group:
        for at_s, kind in plan:
            ahead = began + at_s - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(ahead)
            group.create_task(one(at_s, kind))
    client.close()
    return found


def arrive(url: str, requests: Mapping[str, bytes], rate: float, seconds: float) -> list[Arrival]:
    """Send the requests of a schedule, each class its own bytes; return what became of them."""
    return uvloop.run(_arrive(url, requests, schedule(rate, seconds, seed=1)))


def summary(found: Sequence[Arrival], seconds: float, warm_up_s: float) -> dict[str, Any]:
    """Return the figures of the arrivals after the warm-up."""
    counted = [each for each in found if each.at_s >= warm_up_s]
    refused = [each.answer.took_s * 1000 for each in counted if each.answer.status in REFUSED]
    unserved = [each.answer.took_s * 1000 for each in counted if not each.good]
    odd = {
        each.answer.body[:200].decode(errors="replace") for each in counted if each.answer.status not in KNOWN
    }
    statuses = [each.answer.status for each in counted]
    served = {}
    for kind in CLASSES:
        outcomes = [each.good for each in counted if each.kind == kind]
        served[kind] = round(sum(outcomes) / max(1, len(outcomes)), 4)
    return {
        "arrivals": len(counted),
        "goodput": round(sum(each.good for each in counted) / (seconds - warm_up_s), 2),
        "statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
        "served": served,
        "refused": len(refused),
        "refused_p50_ms": round(percentile(refused, 0.5), 3),
        "refused_p99_ms": round(percentile(refused, 0.99), 3),
        "unserved_p99_ms": round(percentile(unserved, 0.99), 3),
        "odd": sorted(odd)[:5],
        "good_p50_ms": round(
            percentile([each.answer.took_s * 1000 for each in counted if each.good], 0.5), 3
        ),
        "good_p99_ms": round(
            percentile([each.answer.took_s * 1000 for each in counted if each.good], 0.99), 3
        ),
    }


def goals(rows: Sequence[Mapping[str, Any]]) -> list[Goal]:
    """Return what must be shown; the last row is the overload, the peak is the best of all rows."""
    peak, worst = max(row["goodput"] for row in rows), rows[-1]
    # Where nobody is refused, those that are served too late are those that should have been.
    rejection = worst["refused_p99_ms"] if worst["refused"] else worst["unserved_p99_ms"]
    return [
        Goal(
            "overload, goodput at 3x capacity",
            worst["goodput"] / max(peak, 1e-9),
            0.9,
            "of the peak",
            most=False,
        ),
        Goal("overload, rejection p99", rejection, 10.0, "ms"),
        Goal(
            "overload, interactive requests served",
            worst["served"]["interactive"],
            0.99,
            "of all",
            most=False,
        ),
    ]
