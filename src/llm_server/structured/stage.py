"""A provider whose answers have the form that was demanded of them, or are errors that say why not."""

from contextlib import aclosing
from typing import Any

import msgspec

from llm_server.contract import (
    Begun,
    Call,
    ChatCall,
    Context,
    CountCall,
    ErrorKind,
    Events,
    Facts,
    Provider,
    ServerError,
    Taker,
    Wrapped,
)
from llm_server.structured.config import StructuredConfig
from llm_server.structured.demand import checked_tools, key_of
from llm_server.structured.planning import Plan, Planner
from llm_server.structured.remembering import Recent
from llm_server.structured.rules import Rules
from llm_server.structured.trial import Trial

REFUSALS = frozenset({ErrorKind.INVALID_REQUEST, ErrorKind.UNSUPPORTED})
"""What a provider answers that does not take a schema, a tool, or the whole way of asking: the next way is
tried."""


REMEMBERED_MODELS = 1_000
"""Models of a provider whose facts are kept at hand; names come from callers, so there is a bound."""


class Structured(Wrapped):
    """Wraps a provider, and is one: see :class:`llm_server.contract.Provider`.

    A chat call that demands a form, by an output format or by forcing one tool, is asked by the best method
    that the model's facts allow. Its answer is judged by the caller's own schema, and asked again with what
    is wrong with it, until it is valid or the attempts are spent. Where a model chooses between tools, its
    calls of strict ones are judged so too, and all calls where it must make one. Everything else passes
    through untouched.

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
        super().__init__(inner)
        self._config = config or StructuredConfig()
        self._rules = rules or Rules(self._config.rules)
        self._planner = Planner(self._config, self._rules)
        self._plans: Recent[Any, Plan] = Recent(count=1_000, weight=8 * 1024 * 1024)
        self._facts: dict[str, tuple[Facts, Facts]] = {}

    def facts(self, model: str) -> Facts:
        """Return what ``model`` can do with this stage in front: every form, by one method or another."""
        own = self._inner.facts(model)
        known = self._facts.get(model)
        if known is None or known[0] is not own:
            if len(self._facts) >= REMEMBERED_MODELS:
                self._facts.clear()
            known = self._facts[model] = own, _upgraded(own)
        return known[1]

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``.

        Raises:
            ServerError: ``OUTPUT_INVALID``, with every problem and the model's words, when no answer was
                valid; ``INVALID_REQUEST`` for a schema that is none.
        """
        if isinstance(call, ChatCall) and _is_held(call):
            return self._formed(call, ctx)
        return self._inner(call, ctx)

    def begin(self, call: Call, ctx: Context, taker: Taker) -> Begun | None:
        """Take the inner provider's short way, unless ``call`` demands a form."""
        return None if isinstance(call, ChatCall) and _is_held(call) else self._begin(call, ctx, taker)

    async def plan(self, call: ChatCall) -> Plan:
        """Return how a demand on ``call`` is met here: worked out in a thread once, then remembered.

        Raises:
            ServerError: ``INVALID_REQUEST`` or ``UNSUPPORTED``, as :meth:`__call__`.
        """
        facts = self._inner.facts(call.model)
        tool = call.forced_tool
        checked = () if tool is not None else checked_tools(call)
        tools = tool is None and bool(call.tools)
        ways = facts.json_schema, facts.json_object, facts.tools, facts.grammar, facts.guided, tools
        held = facts.grammar_exact, facts.grammar_without
        key = key_of(call, tool, checked), facts.schema_rules, held, ways
        plan = self._plans.get(key)
        if plan is None:
            if call.output is None and tool is None:
                plan = await self._planner.choosing(call, checked)
            else:
                plan = await self._planner.formed(call, tool, checked, facts)
            self._plans.put(key, plan, plan.weight)
        return plan

    async def _formed(self, call: ChatCall, ctx: Context) -> Events:
        plan = await self.plan(call)
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


def _is_held(call: ChatCall) -> bool:
    """Whether the answer to ``call`` must have a form, or its tool calls."""
    if call.output is None and not call.tools:
        return False
    if isinstance(call, CountCall):
        return False
    return call.output is not None or call.forced_tool is not None or bool(checked_tools(call))


def _upgraded(facts: Facts) -> Facts:
    if not facts.chat:
        return facts
    return msgspec.structs.replace(
        facts, json_schema=True, json_object=True, forced_tools=True, grammar=facts.grammar or facts.guided
    )
