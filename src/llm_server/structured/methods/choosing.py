"""Which methods can bring a demand about, the best first."""

from collections.abc import Iterator
from contextlib import suppress

import msgspec

from llm_server.contract import ErrorKind, Facts, SchemaRules, ServerError
from llm_server.structured.demand import Demand
from llm_server.structured.grammar import Compiled
from llm_server.structured.limits import Inexpressible
from llm_server.structured.methods.grammar import Grammar
from llm_server.structured.methods.native import NativeSchema, NativeWords
from llm_server.structured.methods.port import Method
from llm_server.structured.methods.prompt import Prompt
from llm_server.structured.methods.tool import AnswerTool, OwnTool
from llm_server.structured.rewriting import rewrite

_TOOL_RULES = SchemaRules(root_object=True)
"""What every provider takes as a tool's parameters: an object."""


def choose(demand: Demand, facts: Facts, compiled: Compiled | None, *, tools: bool) -> tuple[Method, ...]:
    """Return the methods for ``demand`` at a model with ``facts``, in the order in which they are tried.

    ``compiled`` is the demand as a grammar, for a model that takes grammars; ``tools``: whether the call has
    tools of its own besides a forced one, so that no tool of ours can be forced.

    Raises:
        ServerError: ``UNSUPPORTED`` where nothing can hold to the demand, or even judge it: a grammar at a
            model that takes none.
    """
    methods = tuple(_methods(demand, facts, compiled, tools=tools))
    if not methods:
        message = (
            "This model cannot be held to a grammar; use a JSON Schema, choices or a regular expression."
        )
        raise ServerError(ErrorKind.UNSUPPORTED, message, param="guided_grammar")
    return methods


def _methods(demand: Demand, facts: Facts, compiled: Compiled | None, *, tools: bool) -> Iterator[Method]:
    if demand.tool is not None and facts.tools:
        yield OwnTool(demand.tool.name)
        if demand.tool.strict:
            yield OwnTool(demand.tool.name, loose=True)
        return
    if compiled is not None and facts.grammar and demand.output.kind not in facts.grammar_without:
        yield Grammar(demand, compiled, exact=facts.grammar_exact)
        if facts.grammar_exact:
            return
    if _in_own_words(demand, facts):
        yield NativeWords(demand)
    if demand.schema is None:
        return
    yield from _by_schema(demand, facts, tools=tools)
    yield Prompt(demand, json_mode=facts.json_object)


def _in_own_words(demand: Demand, facts: Facts) -> bool:
    if demand.tool is not None or demand.output.kind == "json_schema":
        return False
    return facts.json_object if demand.output.kind == "json_object" else facts.guided


def _by_schema(demand: Demand, facts: Facts, *, tools: bool) -> Iterator[Method]:
    """Yield what gives the provider the schema. A model that is free to say any object is not given one."""
    assert demand.schema is not None
    if demand.output.kind == "json_object":
        return
    if facts.json_schema:
        rules = facts.schema_rules
        if demand.bare:  # a text is nobody's JSON: inside an object it is everybody's
            rules = msgspec.structs.replace(rules, root_object=True)
        with suppress(Inexpressible):  # the next method takes any schema
            yield NativeSchema(demand, rewrite(demand.schema, rules), rules)
    if facts.tools and not tools:
        yield AnswerTool(demand, rewrite(demand.schema, _TOOL_RULES))
