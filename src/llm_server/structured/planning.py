"""How a demand is met: worked out once, for all calls that demand the same of the same kind of model."""

import asyncio
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from llm_server.contract import ChatCall, ErrorKind, Facts, ServerError, Tool
from llm_server.structured import grammar
from llm_server.structured.calling import CallJudge
from llm_server.structured.closing import closed
from llm_server.structured.config import StructuredConfig
from llm_server.structured.demand import Demand, demand_of, must_call
from llm_server.structured.judging import Judge, Judging
from llm_server.structured.methods import Method, choose
from llm_server.structured.methods.tool import OwnTool
from llm_server.structured.rules import Rules
from llm_server.structured.trial import Terms


class Plan(Struct, frozen=True, eq=False):
    """The terms on which a model is asked, in order; ``weight`` is about what they take, in bytes."""

    terms: tuple[Terms, ...]
    weight: int

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods, in order."""
        return tuple(each.method for each in self.terms)


class Planner:
    """Makes plans, in threads where that takes time.

    Args:
        config: limits and defaults.
        rules: what answers must hold to beyond their schemas.
    """

    def __init__(self, config: StructuredConfig, rules: Rules) -> None:
        self._config = config
        self._rules = rules

    async def formed(self, call: ChatCall, tool: Tool | None, tools: tuple[Tool, ...], facts: Facts) -> Plan:
        """Return the plan for ``call``, which has an output format or forces ``tool``.

        ``tools`` are others whose calls are judged.

        Raises:
            ServerError: ``INVALID_REQUEST`` for a form that is none, ``UNSUPPORTED`` for one that a model
                with ``facts`` cannot be held to.
        """
        demand = await asyncio.to_thread(demand_of, call, tool, formats=self._config.formats)
        compiled = await _compiled(demand, facts)
        if demand.schema is None:
            demand = msgspec.structs.replace(demand, grammar=compiled)
        free = tool is None and bool(call.tools)
        methods = await asyncio.to_thread(choose, demand, facts, compiled, tools=free)
        (calls,) = await self._judges(call, tools, [OwnTool()]) if tools else (None,)
        weight = len(demand.schema.canonical) if demand.schema else len(demand.output.grammar)
        return self._plan([Judge(demand, method, self._rules, calls) for method in methods], weight)

    async def choosing(self, call: ChatCall, tools: tuple[Tool, ...]) -> Plan:
        """Return the plan for ``call``, whose model chooses between tools, of which ``tools`` are judged.

        Raises:
            ServerError: ``INVALID_REQUEST`` for a tool whose parameters are no schema.
        """
        ways = [OwnTool()] + ([OwnTool(loose=True)] if any(tool.strict for tool in tools) else [])
        judges = await self._judges(call, tools, ways)
        return self._plan(judges, sum(len(bytes(tool.parameters)) for tool in tools))

    async def _judges(
        self, call: ChatCall, tools: tuple[Tool, ...], ways: Iterable[Method]
    ) -> list[CallJudge]:
        demands = {tool.name: await asyncio.to_thread(self._demand, call, tool) for tool in tools}
        judges = {name: Judge(each, OwnTool(name), self._rules) for name, each in demands.items()}
        return [CallJudge(way, judges, must=must_call(call)) for way in ways]

    def _demand(self, call: ChatCall, tool: Tool) -> Demand:
        return demand_of(call, tool, formats=self._config.formats)

    def _plan(self, judges: Iterable[Judging], weight: int) -> Plan:
        return Plan(tuple(Terms(judge.method, judge, self._config) for judge in judges), 1_000 + weight)


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
