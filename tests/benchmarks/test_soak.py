"""What a soak reads of the server: gauges, the census, the slope."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
import soak
from bench import leaving, profiling, watched

METRICS = """# HELP llm_server_requests_in_flight Requests being answered now.
# TYPE llm_server_requests_in_flight gauge
llm_server_requests_in_flight{route="/v1/chat/completions"} 2.0
llm_server_requests_in_flight{route="/v1/messages"} 0.0
llm_server_pool_busy_connections{provider="openai"} 1.0
llm_server_pool_waiting_requests 4.0
llm_server_pool_open_connections{provider="openai"} 9.0
"""


def test_the_gauges_that_must_be_zero_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "fetch", lambda url: (200, METRICS.encode()))
    assert soak.gauges("http://server") == 7


def test_metrics_that_cannot_be_read_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "fetch", lambda url: (404, b""))
    with pytest.raises(SystemExit, match="no metrics"):
        soak.gauges("http://server")


async def test_the_census_sees_tasks_and_the_entries_of_containers() -> None:
    gc.collect()
    tasks, entries = (watched.census()[name] for name in ("tasks", "entries"))
    kept: dict[str, dict[int, str]] = {"map": dict.fromkeys(range(1_000_000), "x")}
    waiting = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    after = watched.census()
    assert after["tasks"] == tasks + 1
    assert 1_000_000 <= after["entries"] - entries < 1_100_000  # others have their own here
    waiting.cancel()
    kept.clear()
    await asyncio.gather(waiting, return_exceptions=True)
    assert watched.census()["tasks"] == tasks
    assert watched.census()["entries"] - entries < 1000


def result(rss: list[float], **after: float) -> dict[str, Any]:
    looked = {"entries": 100, "gauges": 0, "tasks": 3, "files": 20}
    samples = [(1000 * (place + 1), mb) for place, mb in enumerate(rss)]
    return {
        "rss": samples, "before": looked, "after": {**looked, **after},
        "requests": samples[-1][0], "failed": 0, "left_unserved": 0,
    }  # fmt: skip


def test_a_server_that_keeps_nothing_meets_every_goal() -> None:
    assert all(goal.met for goal in soak.goals(result([50.0] * 20)))


@pytest.mark.parametrize(
    ("found", "missed"),
    [
        (result([50 + 0.01 * place for place in range(40)]), "slope"),  # 10 KB a thousand requests
        (result([50.0] * 20, tasks=4), "tasks"),
        (result([50.0] * 20, files=21), "open files"),
        (result([50.0] * 20, gauges=1), "in flight"),
        (result([50.0] * 20, entries=1100), "entries"),
    ],
)
def test_whatever_stays_behind_misses_its_goal(found: dict[str, Any], missed: str) -> None:
    (goal,) = [goal for goal in soak.goals(found) if not goal.met]
    assert missed in goal.name


def test_memory_that_settles_in_the_beginning_is_no_slope() -> None:
    rising = [40.0 + place for place in range(10)]
    assert all(goal.met for goal in soak.goals(result([*rising, *[50.0] * 90])))


def test_what_grew_is_named() -> None:
    before = {"types": {"a.A": 5, "b.B": 7}}
    after = {"types": {"a.A": 15, "b.B": 7, "c.C": 2}}
    assert soak.grown(before, after) == {"a.A": 10, "c.C": 2}


def test_the_server_is_looked_into_after_callers_came_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "SETTLES_WITHIN_S", 0.0)
    with soak.up(tmp_path) as soaked:
        found = soak.soak(soaked, 30, 1)
        seen = soak.look(soaked)
    assert found["failed"] == found["left_unserved"] == 0
    assert found["requests"] >= 30
    assert found["left"] >= leaving.TOGETHER
    assert seen["tasks"] >= 1
    assert seen["files"] > 3
    assert seen["rss_mb"] > 10
    assert any(name.startswith("llm_server.") for name in seen["types"])


STACKS = """_run (<frozen runpy>:88);serve (llm_server/cli/serve.py:33);run (asyncio/runners.py:118);ask (llm_server/pool/aio.py:9);send (aiohttp/client.py:5) 30
_run (<frozen runpy>:88);serve (llm_server/cli/serve.py:33);run (asyncio/runners.py:118);reply (llm_server/api/reply.py:9) 60
run (uvicorn/server.py:1) 10
"""  # noqa: E501  # as py-spy writes them


def test_a_profile_is_told_by_room_by_package_and_by_function() -> None:
    found = profiling.shares(profiling.parse(STACKS))
    assert found["by room, with what it calls"] == {
        "llm_server/pool": 30,
        "llm_server/api": 60,
        "uvicorn": 10,
    }
    assert found["by room and package, own time"] == {"aiohttp": 30, "llm_server/api": 60, "uvicorn": 10}
    assert found["by function, own time"]["send (aiohttp/client.py)"] == 30
    shown = profiling.shown("title", found["by room, with what it calls"])
    assert shown.splitlines()[:2] == ["title", "  60.0 %  llm_server/api"]


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("llm_server/api/reply.py", "llm_server/api"),
        ("/work/src/llm_server/app.py", "llm_server/app.py"),
        ("/venv/lib/python3.11/site-packages/msgspec/json.py", "msgspec"),
        ("asyncio/events.py", "stdlib"),
        ("<frozen runpy>", "stdlib"),
        ("uvicorn/server.py", "uvicorn"),
    ],
)
def test_the_place_of_a_function_is_a_room_or_a_package(file: str, place: str) -> None:
    assert profiling.Frame("f", file).place == place
