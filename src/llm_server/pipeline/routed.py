"""Send a call to the targets of its route until one answers."""

from collections.abc import Mapping

from llm_server.contract import (
    Answer,
    Begun,
    Call,
    ChatCall,
    Chunk,
    Context,
    ErrorKind,
    Events,
    Facts,
    Priority,
    Provider,
    Route,
    RouterStrategy,
    ServerError,
    Taker,
    Target,
    begin_of,
)
from llm_server.pipeline.attempts import (
    Limits,
    Request,
    Timing,
    begun,
    is_held,
    limited,
    noted,
)
from llm_server.pipeline.counted import estimate
from llm_server.pipeline.hedging import hedged
from llm_server.pipeline.ledger import Ledger
from llm_server.pipeline.trip import Trip


class Routed:
    """Asks target after target until one gives content: the commit point.

    What comes before the first content is held back, so that a failure up to there is followed by another
    attempt unseen by the caller; :mod:`llm_server.pipeline.trip` decides where. After it a failure is the
    caller's: it is raised and nothing is tried again. This holds for every dialect and for whole answers as
    for streams: a whole answer is content.

    Args:
        strategy: says what a name stands for.
        providers: by name.
        timing: the clock, the sleep and the chance of back-offs.
    """

    def __init__(
        self, strategy: RouterStrategy, providers: Mapping[str, Provider], timing: Timing | None = None
    ) -> None:
        self._strategy = strategy
        self._providers = providers
        self._begins = {name: begin_of(provider) for name, provider in providers.items()}
        self._timing = timing or Timing()
        self._clock = self._timing.clock
        self._ledger = Ledger()

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``; raises the ``ServerError`` of the last attempt when none could."""
        return self._course(call, ctx)

    def begin(self, call: Call, ctx: Context, taker: Taker) -> Begun | None:
        """Begin the first attempt, if nothing on its route has a limit of time or runs beside it."""
        try:
            request = self._planned(call, ctx)
        except Exception:  # noqa: BLE001 - the ordinary way raises it where everybody hears of it
            return None
        route, target = request.route, request.target
        if route.hedge is not None or _is_limited(route):
            return None
        leg = Leg(self, request, taker)
        ctx.attempts.append(noted(target, self._clock()))
        sent = call if call.model == target.model else call.addressed(target.model)
        begun = None
        try:
            begun = self._begins[target.provider](sent, ctx, leg)
        finally:
            if begun is None:
                ctx.attempts.pop()
        if begun is None:
            return None
        leg.inner = begun
        return leg

    async def _course(
        self, call: Call, ctx: Context, leg: "Leg | None" = None, rest: Events | None = None
    ) -> Events:
        """Make attempt after attempt; ``leg`` is the first if it is on its way already, with its ``rest``."""
        request = self._planned(call, ctx) if leg is None else leg.request
        held, committed = ([], False) if leg is None else (leg.held, leg.committed)
        while True:
            complete = False
            answers, rest = rest or self._opened(request), None
            try:
                async for answer in answers:
                    if not committed:
                        if is_held(answer, held):
                            continue
                        committed = True
                        self.answered(request)
                        for early in held:
                            yield early
                    yield answer
                complete = True
                if not committed:
                    self.answered(request)
                    for late in held:
                        yield late
                return
            except ServerError as error:
                ctx.attempts[-1].error = error.kind
                if committed or not self._goes_on(request, error):
                    raise
            finally:
                await answers.aclose()
                self.ended(ctx, complete=complete)
            held = []
            await self._pause(request)

    def _planned(self, call: Call, ctx: Context) -> Request:
        """Return what is asked of whom; what the route says of its requests is noted in ``ctx``."""
        route = self._strategy.route(call.model)
        if route.spans:
            ctx.marked = True
        if route.priority is not None and ctx.priority is Priority.DEFAULT:
            ctx.priority = route.priority
        if route.timeout_s is not None:
            deadline_s = self._clock() + route.timeout_s
            ctx.deadline_s = deadline_s if ctx.deadline_s is None else min(deadline_s, ctx.deadline_s)
        targets = self._roomy(call, route) if route.instead else route.targets
        targets = self._strategy.plan(call, targets, self._facts).attempts
        return Request(call, ctx, route, targets, targets[0])

    def _roomy(self, call: Call, route: Route) -> tuple[Target, ...]:
        """Return the targets that have room for the call; if none has, those for calls that are too long."""
        longer = route.instead.get(ErrorKind.CONTEXT_OVERFLOW)
        if not longer or not isinstance(call, ChatCall):
            return route.targets
        tokens = estimate(call)
        limits = {target: self._facts(target).context_tokens for target in route.targets}
        return tuple(target for target, limit in limits.items() if limit is None or tokens <= limit) or longer

    def _opened(self, request: Request) -> Events:
        """Return the answers of an attempt at the next target; where the route hedges, of it and another."""
        if request.route.hedge is None:
            return self._asked(request, request.target, request.ctx)
        return hedged(request, self._trip(request), self._asked, self._ledger, self._timing)

    def _asked(self, request: Request, target: Target, ctx: Context) -> Events:
        now_s = self._clock()
        ctx.elsewhere = request.trip.elsewhere if request.trip else len(request.targets) > 1
        answers = begun(self._providers[target.provider], target, request.call, ctx, now_s)
        route = request.route
        if not _is_limited(route):
            return answers
        end_s = None if route.timeout_s is None or ctx.deadline_s is None else ctx.deadline_s - now_s
        return limited(answers, Limits(route.retry.attempt_timeout_s, end_s), self._clock)

    def answered(self, request: Request) -> None:
        """Note that the latest attempt is the one that answers."""
        now_s = self._clock()
        attempt = request.ctx.attempts[-1]
        attempt.error = None
        if attempt.first_byte_s is None:
            attempt.first_byte_s = now_s
        if request.trip is not None:
            request.trip.answered(now_s)
            return
        self._ledger.budget(request.route).deposit(now_s)
        self._ledger.succeeded(request.target)

    def _goes_on(self, request: Request, error: ServerError) -> bool:
        """Whether there is another attempt to make after ``error``."""
        return self._trip(request).goes_on(error, self._clock(), self._timing.random())

    def _trip(self, request: Request) -> Trip:
        if request.trip is None:
            call = request.call  # the request itself would be a cycle, left to the garbage collector

            def replan(targets: tuple[Target, ...]) -> tuple[Target, ...]:
                return self._strategy.plan(call, targets, self._facts).attempts

            request.trip = Trip(request.route, request.targets, request.ctx, self._ledger, replan)
        return request.trip

    def ended(self, ctx: Context, *, complete: bool) -> None:
        """Note the end of an attempt, and why it was given up, if nothing else is known to be wrong."""
        attempt = ctx.attempts[-1]
        if not complete and attempt.error in {None, ErrorKind.CLIENT_CLOSED}:
            late = not ctx.left and ctx.deadline_s is not None and self._clock() >= ctx.deadline_s
            attempt.error = ErrorKind.DEADLINE if late else ErrorKind.CLIENT_CLOSED
        if attempt.ended_s is None:
            attempt.ended_s = self._clock()

    async def _pause(self, request: Request) -> None:
        """Wait as long as the next attempt demands; what the last one dropped is no longer true."""
        trip = self._trip(request)
        request.target = trip.target
        request.ctx.dropped.clear()
        if trip.wait_s > 0:
            await self._timing.sleep(trip.wait_s)

    def _facts(self, target: Target) -> Facts:
        return self._providers[target.provider].facts(target.model)


def _is_limited(route: Route) -> bool:
    """Whether attempts have a time of their own."""
    return route.retry.attempt_timeout_s is not None or route.timeout_s is not None


class Leg:
    """The first attempt of a request on the short way, and its taker: holds answers back to the commit."""

    __slots__ = ("_routed", "_taker", "committed", "held", "inner", "request")

    def __init__(self, routed: Routed, request: Request, taker: Taker) -> None:
        self._routed = routed
        self._taker = taker
        self.request = request
        self.committed = False
        self.held: list[Answer] = []
        self.inner: Begun

    def take(self, answer: Answer) -> None:
        """Pass ``answer`` on once there is content."""
        if self.committed:
            self._taker.take(answer)
        elif not is_held(answer, self.held):
            self._commit()
            if type(answer) is Chunk:
                self._taker.take(answer)
            else:
                self._last().take(answer)

    def end(self) -> None:
        """Pass on what was held back of a stream without content."""
        if not self.committed:
            self._commit()
        self._last().end()

    def turn(self) -> None:
        """Pass it on."""
        self._taker.turn()

    def rest(self) -> Events:
        """Return the rest of this attempt, and those after it."""
        del self._taker  # which refers to this
        return self._routed._course(self.request.call, self.request.ctx, self, self.inner.rest())

    def _last(self) -> Taker:
        """Note the end, and return the taker for it: nothing refers to it from here any more."""
        self._routed.ended(self.request.ctx, complete=True)
        taker = self._taker
        del self._taker
        return taker

    def _commit(self) -> None:
        self.committed = True
        self._routed.answered(self.request)
        held, self.held = self.held, []
        for early in held:
            self._taker.take(early)
