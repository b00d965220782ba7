"""What decides when a request may go to an upstream, and learns from how it went."""

import asyncio
import time
from collections.abc import Callable

from llm_server.contract import Context, ErrorKind, Priority, ServerError
from llm_server.pool.breaker import Breaker
from llm_server.pool.config import PoolConfig
from llm_server.pool.gate import Gate
from llm_server.pool.health import Health
from llm_server.pool.limit import AdaptiveLimit
from llm_server.pool.quota import Quota, QuotaRules


class Admission:
    """Gate, limit, health, breaker and quota of one upstream, in step with each other.

    Args:
        config: limits and thresholds.
        rules: how the upstream tells of its quotas.
        now: the clock of deadlines, in seconds.
        opened: called whenever the breaker has opened.

    Attributes:
        reads_headers: headers of good answers that tell of quotas.
    """

    __slots__ = (
        "_adapts",
        "_config",
        "_opened",
        "_parked",
        "breaker",
        "gate",
        "health",
        "limit",
        "now",
        "quota",
        "reads_headers",
    )

    def __init__(
        self,
        config: PoolConfig,
        rules: QuotaRules,
        now: Callable[[], float] = time.perf_counter,
        opened: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._opened = opened
        self._adapts = config.adaptive.enabled
        self._parked = dict.fromkeys(Priority, 0)
        self.now = now
        self.limit = AdaptiveLimit(config.adaptive.initial, config.adaptive.floor, config.max_connections)
        limit = self.limit.limit if self._adapts else config.max_connections
        self.gate = Gate(limit, config.max_waiting, config.acquire_timeout_s, now)
        self.health = Health(config.breaker.window_s)
        self.breaker = Breaker(config.breaker)
        obeyed = rules if config.obey_quotas else QuotaRules()
        self.quota = Quota(obeyed)
        self.reads_headers = frozenset(allowance.remaining for allowance in obeyed.allowances)

    async def wait(self, ctx: Context | None, now_s: float) -> bool:
        """Wait until a request may go; return whether it is a probe of an open breaker.

        Whoever is let in calls :meth:`Gate.leave`.

        Raises:
            ServerError: ``UNAVAILABLE``, ``UPSTREAM_RATE_LIMITED``, ``OVERLOADED`` or ``DEADLINE``.
        """
        priority = Priority.DEFAULT if ctx is None else ctx.priority
        desperate = ctx is not None and ctx.desperate
        probe = self._pass_breaker(desperate=desperate, now_s=now_s)
        try:
            if self.quota.held:
                await self._sit_out(ctx, priority, now_s)
            if not self.gate.enter():
                await self.gate.wait(priority, None if ctx is None else ctx.deadline_s)
            # It may have opened while this one waited.
            if not probe and not desperate and not self.breaker.closed:
                self.gate.leave()
                raise self._unavailable()
        except BaseException:
            if probe:
                self.breaker.unprobed()
            raise
        if ctx is not None and ctx.attempts:
            ctx.attempts[-1].queued_s += self.now() - now_s
        return probe

    def waiting(self) -> dict[Priority, int]:
        """Return how many wait, by class: for a place, or for the end of a hold."""
        return {priority: count + self._parked[priority] for priority, count in self.gate.by_class().items()}

    def began(self, sent_s: float) -> None:
        """Note that the body of a stream sent at ``sent_s`` has begun."""
        now_s, gate = self.now(), self.gate
        self.health.began(now_s - sent_s)
        if self._adapts and self.limit.began(sent_s, now_s, gate.busy, gate.held_s):
            gate.allow(self.limit.limit)

    def crowded(self, sent_s: float) -> None:
        """Note that the upstream refused a request sent at ``sent_s`` for want of room."""
        if self._adapts and self.limit.refused(sent_s, self.now()):
            self.gate.allow(self.limit.limit)

    def failed(self, *, probe: bool) -> None:
        """Note a failure that is the upstream's; when the breaker opens, everybody who waits is sent away."""
        now_s = self.now()
        self.health.failed(now_s)
        if self.breaker.failed(now_s, self.health, probe=probe):
            self.gate.dismiss(self._unavailable)
            self._opened()

    def recovered(self) -> None:
        """Note that a request that went through an open breaker has good headers."""
        self.breaker.answered(self.now())
        self.health.consecutive_failures = 0

    def succeeded(self, took_s: float, *, good: bool, streamed: bool) -> None:
        """Note an answer that was read to its end.

        ``good`` is whether it was what had been asked for, and no refusal of a bad request or for a limit;
        the times of these say nothing.
        """
        now_s, gate = self.now(), self.gate
        self.health.succeeded(now_s, took_s if good else None)
        self.breaker.suspect = False
        if not good or streamed or not self._adapts:
            return
        if self.limit.succeeded(now_s - took_s, now_s, gate.busy, gate.held_s):
            gate.allow(self.limit.limit)

    def _pass_breaker(self, *, desperate: bool, now_s: float) -> bool:
        if self.breaker.closed:
            return False
        # With a path to ask, asking is the pool's; unless that did not come about.
        config = self._config.breaker
        grace_s = 0.0 if config.probe_path is None else config.open_s + self._config.connect_timeout_s
        if now_s >= self.breaker.until_s + grace_s and self.breaker.probe(now_s):
            return True
        if not desperate:
            raise self._unavailable()
        return False

    def _unavailable(self) -> ServerError:
        now_s = self.now()
        return ServerError(
            ErrorKind.UNAVAILABLE,
            "This provider has failed repeatedly and is left alone for a while.",
            retry_after_s=self.breaker.retry_after_s(now_s),
            detail=f"breaker {self.breaker.state(now_s)}, opened {self.breaker.times} times in a row",
        )

    async def _sit_out(self, ctx: Context | None, priority: Priority, now_s: float) -> None:
        """Wait for the end of a hold, if that is worth it and there is nobody else to ask."""
        model = ctx.attempts[-1].model if ctx is not None and ctx.attempts else ""
        until_s = now_s + self._config.acquire_timeout_s
        if ctx is not None and ctx.deadline_s is not None:
            until_s = min(until_s, ctx.deadline_s)
        while (wait_s := self.quota.wait_s(model, self.now())) > 0:
            crowd = self.gate.waiting + sum(self._parked.values())
            elsewhere = ctx is not None and ctx.elsewhere
            if elsewhere or self.now() + wait_s >= until_s or crowd >= self._config.max_waiting:
                self.gate.shed[priority] += 1
                message = "The provider limits this server's requests and has said when to come back."
                raise ServerError(ErrorKind.UPSTREAM_RATE_LIMITED, message, retry_after_s=wait_s)
            self._parked[priority] += 1
            try:
                await asyncio.sleep(wait_s)
            finally:
                self._parked[priority] -= 1
