"""A provider whose answers have the form that was demanded of them, or are errors that say why not."""

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import Struct

from llm_server.contract import (
    Call,
    ChatCall,
    Context,
    CountCall,
    ErrorKind,
    Events,
    Facts,
    ModelInfo,
    Provider,
    ServerError,
    State,
    Tool,
)
from llm_server.structured import grammar
from llm_server.structured.closing import closed
from llm_server.structured.config import StructuredConfig
from llm_server.structured.demand import Demand, demand_of, key_of
from llm_server.structured.judging import Judge
from llm_server.structured.methods import Method, choose
from llm_server.structured.remembering import Recent
from llm_server.structured.rules import Rules
from llm_server.structured.trial import Terms, Trial

REFUSALS = frozenset({ErrorKind.INVALID_REQUEST, ErrorKind.UNSUPPORTED})
"""What a provider answers that does not take a schema, a tool, or the whole way of asking: the next way is
tried."""


class Plan(Struct, frozen=True, eq=False):
    """A demand, and the terms on which a model is asked for it, in order."""

    demand: Demand
    terms: tuple[Terms, ...]

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods, in order."""
        return tuple(each.method for each in self.terms)


class Structured:
    """Wraps a provider, and is one: see :class:`llm_server.contract.Provider`.

    A chat call that demands a form, by an output format or by forcing one tool, is asked by the best method
    that the model's facts allow. Its answer is judged by the caller's own schema, and asked again with what
    is wrong with it, until it is valid or the attempts are spent. Every other call passes through untouched.

    Refusals, filtered answers and those cut off by the limit of tokens pass as what they are, with the finish
    reason that says so: they are not answers in the wrong form, and asking again would not help.

    Args:
        inner: the provider.
        config: limits and defaults.
        rules: what answers must hold to beyond their schemas.
    """

    def __init__(
        self, inner: Provider, config: StructuredConfig | None = None, rules: Rules | None = None
    ) -> None:
        self.name = inner.name
        self._inner = inner
        self._config = config or StructuredConfig()
        self._rules = rules or Rules(self._config.rules)
        self._plans: Recent[Any, Plan] = Recent(count=1_000, weight=8 * 1024 * 1024)
        self._facts: Recent[str, tuple[Facts, Facts]] = Recent(count=1_000, weight=1_000)

    def facts(self, model: str) -> Facts:
        """Return what ``model`` can do with this stage in front: every form, by one method or another."""
        own = self._inner.facts(model)
        known = self._facts.get(model)
        if known is None or known[0] is not own:
            known = own, _upgraded(own)
            self._facts.put(model, known, 1)
        return known[1]

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``.

        Raises:
            ServerError: ``OUTPUT_INVALID``, with every problem and the model's words, when no answer was
                valid; ``INVALID_REQUEST`` for a schema that is none.
        """
        if not isinstance(call, ChatCall) or isinstance(call, CountCall):
            return self._inner(call, ctx)
        tool = call.forced_tool
        if call.output is None and tool is None:
            return self._inner(call, ctx)
        return self._formed(call, ctx, tool)

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return the inner provider's models."""
        return await self._inner.models()

    def state(self) -> tuple[State, str]:
        """Return the inner provider's state."""
        return self._inner.state()

    async def start(self) -> None:
        """Make the inner provider ready."""
        await self._inner.start()

    async def close(self) -> None:
        """Release the inner provider."""
        await self._inner.close()

    async def plan(self, call: ChatCall) -> Plan:
        """Return how a demand on ``call`` is met here: worked out in a thread once, then remembered.

        Raises:
            ServerError: ``INVALID_REQUEST`` or ``UNSUPPORTED``, as :meth:`__call__`.
        """
        return await self._plan(call, call.forced_tool)

    async def _plan(self, call: ChatCall, tool: Tool | None) -> Plan:
        facts = self._inner.facts(call.model)
        tools = tool is None and bool(call.tools)
        ways = facts.json_schema, facts.json_object, facts.tools, facts.grammar, facts.guided, tools
        key = key_of(call, tool), facts.schema_rules, ways
        plan = self._plans.get(key)
        if plan is None:
            plan = await self._made(call, tool, facts)
            self._plans.put(key, plan, _weight(plan))
        return plan

    async def _made(self, call: ChatCall, tool: Tool | None, facts: Facts) -> Plan:
        demand = await asyncio.to_thread(demand_of, call, tool, formats=self._config.formats)
        compiled = await _compiled(demand, facts)
        if demand.schema is None:
            demand = msgspec.structs.replace(demand, grammar=compiled)
        tools = tool is None and bool(call.tools)
        methods = await asyncio.to_thread(choose, demand, facts, compiled, tools=tools)
        judges = [Judge(demand, method, self._rules) for method in methods]
        terms = [Terms(judge.demand, judge.method, judge, self._config) for judge in judges]
        return Plan(demand, tuple(terms))

    async def _formed(self, call: ChatCall, ctx: Context, tool: Tool | None) -> Events:
        plan = await self._plan(call, tool)
        refused: ServerError | None = None
        for terms in plan.terms:
            trial = Trial(self._inner, terms, call, ctx)
            try:
                if trial.passes_on:
                    async with aclosing(trial.opened()) as answers:
                        async for answer in answers:
                            for chunk in trial.told(answer):
                                yield chunk
                for rest in await trial.rest():
                    yield rest
                return
            except ServerError as error:
                if error.kind not in REFUSALS or trial.answered:
                    raise
                refused = refused or error
        if refused is not None:
            raise refused


async def _compiled(demand: Demand, facts: Facts) -> grammar.Compiled | None:
    """Return the demand as a grammar where one decodes by it, or nothing else could judge by it."""
    if demand.schema is None:
        return await grammar.prepare(demand.output) if facts.grammar or facts.guided else None
    if not facts.grammar or (demand.tool is not None and facts.tools):
        return None
    try:
        return await grammar.prepare(await asyncio.to_thread(closed, demand.output))
    except ServerError as error:
        if error.kind is not ErrorKind.UNSUPPORTED:
            raise
        return None  # a schema that is no grammar can still be asked for in words, and checked


def _upgraded(facts: Facts) -> Facts:
    if not facts.chat:
        return facts
    return msgspec.structs.replace(
        facts, json_schema=True, json_object=True, forced_tools=True, grammar=facts.grammar or facts.guided
    )


def _weight(plan: Plan) -> int:
    return 1_000 + (
        len(plan.demand.schema.canonical) if plan.demand.schema else len(plan.demand.output.grammar)
    )
