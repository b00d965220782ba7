"""Native: the provider's own mode, given the schema as it takes it."""

from typing import Any, Literal

import msgspec
from msgspec import Raw

from llm_server.contract import ChatCall, Choice, Message, OutputFormat, SchemaRules
from llm_server.structured.demand import Demand
from llm_server.structured.methods.port import Guarantee, again_in_text, said_in_text, without_tools
from llm_server.structured.rewriting import Rewritten

NAME = "answer"
"""What a form is called whose caller gave it no name; most providers demand one."""


class NativeSchema:
    """A JSON Schema in the provider's schema mode.

    A caller that asked in a way that this upstream takes as it is, is passed on as it is, unknown fields
    included. Where the provider promises to hold to a schema if asked strictly, it is asked strictly, unless
    the caller said not to.
    """

    name: Literal["native"] = "native"
    calls = False
    json = True

    def __init__(self, demand: Demand, rewritten: Rewritten, rules: SchemaRules) -> None:
        self._demand = demand
        self._rewritten = rewritten
        loose = demand.output.strict is False and demand.tool is None
        self._strict = None if not rules.enforced else not loose
        self.constrained = bool(self._strict)
        self.dropped = rewritten.dropped
        self.guarantee: Guarantee = "validated"
        if self.constrained:
            self.guarantee = "relaxed" if rewritten.dropped else "exact"
        self.direct = rewritten.direct
        self.unwrap = rewritten.unwrap
        self.unwrap_partial = rewritten.restorer.partial
        self._output = OutputFormat(
            kind="json_schema",
            schema=Raw(rewritten.source),
            name=demand.output.name or NAME,
            description=demand.output.description,
            strict=demand.output.strict if self._strict is None else self._strict,
        )

    def prepare(self, call: ChatCall) -> ChatCall:
        """Return ``call`` with the schema as the provider takes it; unchanged where it is that already."""
        own = call.output
        if self._rewritten.unchanged and own is not None and own.kind == "json_schema" and not own.schema_id:
            if own.strict == self._output.strict:
                return call
            return call.amend(output=msgspec.structs.replace(own, strict=self._output.strict))
        return call.amend(output=self._output, **without_tools(call))

    def said(self, choice: Choice) -> tuple[str, ...]:
        """Return the answer's text."""
        return said_in_text(choice)

    def again(self, choice: Choice, complaint: str) -> tuple[Message, ...]:
        """Return what was said and what is wrong with it."""
        return again_in_text(choice, complaint)


class NativeWords:
    """A form that the provider takes in the caller's words: an object, a pattern, choices, a grammar."""

    name: Literal["native"] = "native"
    guarantee: Guarantee = "validated"
    dropped: tuple[str, ...] = ()
    constrained = False
    direct = True
    calls = False

    def __init__(self, demand: Demand) -> None:
        self.json = not demand.bare

    def prepare(self, call: ChatCall) -> ChatCall:
        """Return ``call``."""
        return call

    def unwrap(self, value: Any) -> Any:
        """Return ``value``."""
        return value

    def unwrap_partial(self, value: Any) -> Any:
        """Return ``value``."""
        return value

    def said(self, choice: Choice) -> tuple[str, ...]:
        """Return the answer's text."""
        return said_in_text(choice)

    def again(self, choice: Choice, complaint: str) -> tuple[Message, ...]:
        """Return what was said and what is wrong with it."""
        return again_in_text(choice, complaint)
