"""More requests than there is room for, through the whole server: who is served, who is refused, and how."""

import asyncio
from collections import Counter

from tests.end_to_end.front import Front, before
from tests.upstreams.cases import load, refusals
from tests.upstreams.script import Hold, play

ASK = {"model": "openai/gpt-x", "messages": [{"role": "user", "content": "x"}]}
PLACES, QUEUE = 4, 8
POOL = {"max_connections": PLACES, "max_waiting": QUEUE, "acquire_timeout_s": 60}


async def ask(front: Front, priority: str = "default") -> tuple[int, str | None]:
    headers = {"x-llm-server-priority": priority}
    async with front.http.post("/v1/chat/completions", json=ASK, headers=headers) as response:
        await response.read()
        return response.status, response.headers.get("retry-after")


async def test_three_times_the_load_is_served_as_far_as_there_is_room_and_refused_at_once_beyond() -> None:
    hold = Hold()
    async with before("openai", play(load("openai", "text")).before(hold), pool=POOL) as (front, up):
        tasks = [asyncio.create_task(ask(front)) for _ in range(3 * (PLACES + QUEUE))]
        # While nothing upstream moves, those beyond places and queue have their answers already.
        refused = []
        for next_one in asyncio.as_completed(tasks):
            refused.append(await next_one)
            if len(refused) == 2 * (PLACES + QUEUE):
                break
        assert {status for status, _ in refused} == {429}
        assert all(retry_after is not None and int(retry_after) >= 1 for _, retry_after in refused)
        await up.wait_requests(PLACES)
        assert up.in_flight == PLACES
        assert await front.metric("llm_server_pool_waiting_requests", priority="default") == QUEUE
        assert await front.metric("llm_server_pool_shed_total", priority="default") == len(refused)
        hold.until.set()
        statuses = Counter(status for status, _ in await asyncio.gather(*tasks))
        assert statuses == {200: PLACES + QUEUE, 429: 2 * (PLACES + QUEUE)}
        assert len(up.requests) == PLACES + QUEUE
        assert up.total_connections == PLACES
        await front.until_idle()
        assert await front.metric("llm_server_pool_wait_seconds_count") == QUEUE


async def test_the_urgent_take_the_places_of_the_others_in_the_queue() -> None:
    hold = Hold()
    api = {"priority_header": "any"}
    async with before("openai", play(load("openai", "text")).before(hold), pool=POOL, api=api) as (front, up):
        inside = [asyncio.create_task(ask(front)) for _ in range(PLACES)]
        await up.wait_requests(PLACES)
        batch = [asyncio.create_task(ask(front, "batch")) for _ in range(QUEUE)]
        await front.until_metric(QUEUE, "llm_server_pool_waiting_requests", priority="batch")
        urgent = [asyncio.create_task(ask(front, "interactive")) for _ in range(QUEUE // 2)]
        await front.until_metric(QUEUE // 2, "llm_server_pool_waiting_requests", priority="interactive")
        assert (await ask(front, "batch"))[0] == 429
        hold.until.set()
        assert {status for status, _ in await asyncio.gather(*inside, *urgent)} == {200}
        statuses = Counter(status for status, _ in await asyncio.gather(*batch))
        assert statuses == {200: QUEUE // 2, 429: QUEUE // 2}
        assert await front.metric("llm_server_pool_shed_total", priority="batch") == QUEUE // 2 + 1
        assert await front.metric("llm_server_pool_shed_total", priority="interactive") == 0


async def test_clients_that_leave_the_queue_make_room_and_cost_no_call() -> None:
    hold = Hold()
    async with before("openai", play(load("openai", "text")).before(hold), pool=POOL) as (front, up):
        inside = [asyncio.create_task(ask(front)) for _ in range(PLACES)]
        await up.wait_requests(PLACES)
        gone = [asyncio.create_task(ask(front)) for _ in range(QUEUE)]
        await front.until_metric(QUEUE, "llm_server_pool_waiting_requests")
        assert (await ask(front))[0] == 429
        for task in gone:
            task.cancel()
        while await front.metric("llm_server_pool_waiting_requests"):
            pass
        late = [asyncio.create_task(ask(front)) for _ in range(QUEUE)]
        await front.until_metric(QUEUE, "llm_server_pool_waiting_requests")
        hold.until.set()
        assert {status for status, _ in await asyncio.gather(*inside, *late)} == {200}
        assert len(up.requests) == PLACES + QUEUE
        await front.until_idle()


async def test_a_provider_that_says_when_to_come_back_is_not_asked_before() -> None:
    limited = play(next(each for each in refusals("groq") if each.status == 429))
    once = {"attempts": 1}
    async with before("groq", limited, pool={"acquire_timeout_s": 1}, retry=once) as (front, up):
        ask_groq = {**ASK, "model": "groq/x"}
        for _ in range(5):
            async with front.http.post("/v1/chat/completions", json=ask_groq) as response:
                assert response.status == 429
                assert int(response.headers["retry-after"]) in range(3, 6)
        assert len(up.requests) == 1


async def test_connections_are_there_before_the_first_request() -> None:
    pool = {"min_connections": 3}
    async with before("openai", load("openai", "text"), pool=pool) as (front, up):
        await up.until(lambda: up.open_connections == 3)
        assert up.requests == []
        assert (await ask(front))[0] == 200
        assert up.total_connections == 3
