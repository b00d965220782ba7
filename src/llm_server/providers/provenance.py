"""Whose reasoning is it? A signature is proof for the provider that made it, and an error for any other.

Where a conversation may move between providers (``Context.marked``), signatures leave this server as
``<provider>~<signature>``; the mark comes off again on the way back to that provider, and whoever else is
asked gets the conversation without the signed block. A signature without a mark was made where the route has
but one provider: it is taken for that of the provider which a request goes to first.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct, json

from llm_server.contract import (
    Answer,
    ChatCall,
    Chunk,
    Completion,
    Message,
    Part,
    ReasoningDelta,
    Thinking,
    ToolCall,
    ToolResult,
)
from llm_server.providers.dialects.signatures import HINTS, split_id, unseal

_HINT, _OTHER_HINT = HINTS
MARK = "~"
"""Between a provider's name and its signature, which is base64 and has none."""


class Reader(Struct, frozen=True):
    """Who is about to read a conversation.

    ``presumed`` is whether signatures that do not say whose they are, are taken for this provider's.
    """

    provider: str
    dialect: str
    presumed: bool = True

    def foreign(self, signature: str) -> bool:
        """Whether ``signature`` was made by another provider."""
        owner, mark, _ = signature.partition(MARK)
        if mark:
            return owner != self.provider
        return not self.presumed or (self.dialect != "gemini" and bool(unseal(signature)))


def is_unsigned(raw: bytes) -> bool:
    """Whether a caller's bytes cannot hold a signature that says whose it is."""
    return bool(raw) and b"~" not in raw and _HINT not in raw and _OTHER_HINT not in raw


def own(call: ChatCall, reader: Reader, dropped: list[str]) -> ChatCall:
    """Return ``call`` without what other providers than ``reader`` signed; what that is, ``dropped`` says.

    The caller's bytes are changed in the same way, and nowhere else.
    """
    if reader.presumed and is_unsigned(call.raw):
        return call
    edit = _Edit(reader, raw=bool(call.raw) and call.dialect == reader.dialect)
    edit.look(call.messages)
    messages = tuple(edit.message(message) for message in call.messages)
    if not edit.foreign and not edit.renamed:
        return call
    raw = edit.rewritten(call.raw) if edit.in_bytes else call.raw
    if edit.foreign:
        dropped.append("thinking")
    if edit.unthinking:
        dropped.append("reasoning")
    return msgspec.structs.replace(call, messages=messages, raw=raw)


def marked(answer: Answer, provider: str) -> Answer:
    """Return ``answer`` with every signature saying that it is ``provider``'s."""
    if isinstance(answer, Chunk):
        signed = [e.signature for e in answer.events if isinstance(e, ReasoningDelta) and e.signature]
        if not signed:
            return answer
        events = tuple(
            msgspec.structs.replace(e, signature=f"{provider}{MARK}{e.signature}")
            if isinstance(e, ReasoningDelta) and e.signature
            else e
            for e in answer.events
        )
        return Chunk(events, _written(answer.frame, {each: f"{provider}{MARK}{each}" for each in signed}))
    if not isinstance(answer, Completion):
        return answer
    names = {each: f"{provider}{MARK}{each}" for each in _signatures(answer)}
    if not names:
        return answer
    choices = tuple(
        msgspec.structs.replace(choice, parts=tuple(_marked_part(part, names) for part in choice.parts))
        for choice in answer.choices
    )
    return msgspec.structs.replace(answer, choices=choices, raw=_written(answer.raw, names))


def _marked_part(part: Any, names: dict[str, str]) -> Any:
    if isinstance(part, Thinking) and part.signature:
        return msgspec.structs.replace(part, signature=names[part.signature])
    return part


def _signatures(answer: Completion) -> Iterator[str]:
    for choice in answer.choices:
        for part in choice.parts:
            if isinstance(part, Thinking) and part.signature:
                yield part.signature


def _written(data: bytes, names: dict[str, str]) -> bytes:
    """Return the upstream's bytes with the new names in, or none if one is spelt in another way there."""
    return _renamed(data, names) if all(json.encode(name) in data for name in names) else b""


def _renamed(data: bytes, names: dict[str, str]) -> bytes:
    """Return JSON text with some strings in the place of others, wherever they stand as a whole."""
    for before, after in names.items():
        data = data.replace(json.encode(before), json.encode(after))
    return data


class _Edit:
    """What is changed in one conversation.

    Attributes:
        foreign: signatures whose blocks are left out.
        renamed: strings that become others: signatures without their mark, ids without a signature in them.
        in_bytes: whether the caller's bytes are what goes on, and are to be changed too.
        unthinking: whether thinking had to be turned off.
    """

    def __init__(self, reader: Reader, *, raw: bool) -> None:
        self.foreign: set[str] = set()
        self.renamed: dict[str, str] = {}
        self.in_bytes = raw
        self.unthinking = False
        self._reader = reader
        self._plain_ids = not reader.presumed or (raw and reader.dialect != "gemini")

    def look(self, messages: Iterable[Message]) -> None:
        """Find what others signed. Beside it, unsigned thoughts are others' too where thoughts are signed."""
        signed = {p.signature for m in messages for p in m.parts if isinstance(p, Thinking) and p.signature}
        self.foreign = {signature for signature in signed if self._reader.foreign(signature)}
        if self.foreign and self._reader.dialect == "anthropic":
            self.foreign.add("")

    def message(self, message: Message) -> Message:
        """Return ``message`` as the reader may see it."""
        parts = tuple(kept for part in message.parts if (kept := self._part(part)) is not None)
        return message if parts == message.parts else msgspec.structs.replace(message, parts=parts)

    def _part(self, part: Part) -> Part | None:
        match part:
            case Thinking(signature=signature):
                if signature in self.foreign:
                    return None
                return msgspec.structs.replace(part, signature=self._unmarked(signature))
            case ToolCall(id=call_id) if self._plain_ids:
                return msgspec.structs.replace(part, id=self._plain(call_id))
            case ToolResult(call_id=call_id) if self._plain_ids:
                return msgspec.structs.replace(part, call_id=self._plain(call_id))
        return part

    def _unmarked(self, signature: str) -> str:
        _, mark, plain = signature.partition(MARK)
        if mark:
            self.renamed[signature] = plain
        return plain if mark else signature

    def _plain(self, call_id: str) -> str:
        plain, signature = split_id(call_id)
        if signature:
            self.renamed[call_id] = plain
        return plain

    def rewritten(self, raw: bytes) -> bytes:
        """Return the caller's bytes with the same changes."""
        raw = _renamed(raw, self.renamed)
        if not self.foreign:
            return raw
        fields = json.decode(raw, type=dict[str, Raw])
        turns = json.decode(fields["messages"], type=list[dict[str, Raw]])
        left = [turn for turn in map(self._turn, turns) if turn]
        fields["messages"] = Raw(json.encode(left))
        self._stop_thinking(fields, left)
        return json.encode(fields)

    def _turn(self, turn: dict[str, Raw]) -> dict[str, Raw]:
        """Return a turn without foreign blocks; nothing if it had no others."""
        content = turn.get("content", Raw(b""))
        if not bytes(content).lstrip().startswith(b"["):
            return turn
        blocks = json.decode(content, type=list[Raw])
        left = [block for block in blocks if not self._is_foreign(block)]
        if len(left) == len(blocks):
            return turn
        return {**turn, "content": Raw(json.encode(left))} if left else {}

    def _is_foreign(self, block: Raw) -> bool:
        found = json.decode(block, type=_Block)
        return bool(found.type.endswith("thinking")) and not self.foreign.isdisjoint(
            {found.signature, found.data}
        )

    def _stop_thinking(self, fields: dict[str, Raw], turns: list[dict[str, Raw]]) -> None:
        """Turn thinking by budget off amid tools: it demands the thought that led to them, which is gone.

        Source: https://platform.claude.com/docs/en/build-with-claude/extended-thinking (preserving blocks).
        """
        thinking = json.decode(fields.get("thinking", Raw(b"{}")), type=_Block)
        amid = bool(turns) and b'"tool_result"' in bytes(turns[-1].get("content", Raw(b"")))
        if thinking.type == "enabled" and amid:
            del fields["thinking"]
            self.unthinking = True


class _Block(Struct):
    """What matters of a content block."""

    type: str = ""
    signature: str | None = None
    data: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.data, str):
            self.data = None
