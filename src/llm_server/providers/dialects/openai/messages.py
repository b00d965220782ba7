"""A conversation as OpenAI's messages: translated, or the caller's own with little changed."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from msgspec import Raw, json

from llm_server.contract import (
    ErrorKind,
    Image,
    Message,
    Opaque,
    Part,
    Refusal,
    Role,
    ServerError,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from llm_server.providers.dialects.toolids import fitting
from llm_server.providers.quirks import Quirks

Said = dict[str, Any]

SEE_IMAGE = "See the image in the next message."
"""What stands for a tool's image, which only a user's message can hold."""

_READ_MESSAGES = json.Decoder(list[dict[str, Raw]])
_READ_CALLS = json.Decoder(list[dict[str, Raw]])
_READ_TEXT = json.Decoder(str)
_FUNCTION = Raw(b'"function"')


def patched_messages(raw: Raw, quirks: Quirks, dropped: list[str]) -> Any:
    """Return the caller's messages; only a role, a name or an id that this server refuses is changed."""
    text = bytes(raw)
    calls = b'"tool_call' in text  # "tool_calls", "tool_call_id"
    developer = not quirks.developer and b'"developer"' in text
    names = not quirks.names and b'"name"' in text
    if not (developer or names or calls):
        return raw
    messages = _READ_MESSAGES.decode(text)
    fit = partial(fitting, pattern=quirks.tool_id, length=quirks.tool_id_length)
    for message in messages:
        if developer and bytes(message.get("role", b"")) == b'"developer"':
            message["role"] = Raw(b'"system"')
        if names and message.pop("name", None) is not None:
            dropped.append("messages.name")
        _fit_ids(message, fit)
    return messages


def _fit_ids(message: dict[str, Raw], fit: Callable[[str], str]) -> None:
    if "tool_call_id" in message:
        message["tool_call_id"] = _fitted(message["tool_call_id"], fit)
    calls = message.get("tool_calls")
    if calls is None or bytes(calls) == b"null":
        return
    fitted = _READ_CALLS.decode(calls)
    for call in fitted:
        call.setdefault("type", _FUNCTION)  # left out by some servers, asked for by others
        if "id" in call:
            call["id"] = _fitted(call["id"], fit)
    message["tool_calls"] = Raw(json.encode(fitted))


def _fitted(raw: Raw, fit: Callable[[str], str]) -> Raw:
    own = _READ_TEXT.decode(raw)
    fits = fit(own)
    return raw if fits == own else Raw(json.encode(fits))


def translated_messages(messages: Iterable[Message], quirks: Quirks, dropped: list[str]) -> list[Said]:
    """Return a conversation of another dialect as OpenAI's messages; what is lost is named in ``dropped``.

    Raises:
        ServerError: ``UNSUPPORTED`` for a part that only its own dialect understands.
    """
    said: list[Said] = []
    for message in messages:
        turn = _Turn(message, quirks, dropped)
        match message.role:
            case Role.ASSISTANT:
                said.append(turn.assistant())
            case Role.SYSTEM:
                said.append(turn.named({"role": "system", "content": turn.text("\n\n")}))
            case _:
                said.extend(turn.results())
                said.extend(turn.user())
    return said


class _Turn:
    """One message on its way."""

    def __init__(self, message: Message, quirks: Quirks, dropped: list[str]) -> None:
        self._message = message
        self._quirks = quirks
        self._dropped = dropped
        for part in message.parts:
            if isinstance(part, Opaque):
                raise ServerError(
                    ErrorKind.UNSUPPORTED, f"Content of type '{part.type}' cannot be sent to this provider."
                )

    def named(self, said: Said) -> Said:
        """Return ``said`` with the speaker's name, where this server takes names."""
        if self._message.name and self._quirks.names:
            return {**said, "name": self._message.name}
        if self._message.name:
            self._dropped.append("messages.name")
        return said

    def text(self, between: str) -> str:
        """Return the turn's text, a refusal included."""
        parts = (part.text for part in self._message.parts if isinstance(part, Text | Refusal))
        return between.join(parts)

    def assistant(self) -> Said:
        """Return what the model said before."""
        calls = [part for part in self._message.parts if isinstance(part, ToolCall)]
        said: Said = {"role": "assistant", "content": self.text("") or (None if calls else "")}
        if calls:
            said["tool_calls"] = [self._call(call) for call in calls]
        if thoughts := self._thoughts():
            said[self._quirks.reasoning] = thoughts
        return self.named(said)

    def results(self) -> list[Said]:
        """Return one message for each tool result; OpenAI wants them right after the calls."""
        return [self._result(part) for part in self._message.parts if isinstance(part, ToolResult)]

    def user(self) -> list[Said]:
        """Return the rest of a user's turn, images of tool results included; none when there is none."""
        content = [said for part in self._message.parts for said in self._content(part)]
        if not content:
            # A turn of tool results has said everything; an empty one must still be a turn.
            silent = any(isinstance(part, ToolResult) for part in self._message.parts)
            return [] if silent else [self.named({"role": "user", "content": ""})]
        if len(content) == 1 and content[0]["type"] == "text":
            return [self.named({"role": "user", "content": content[0]["text"]})]
        return [self.named({"role": "user", "content": content})]

    def _content(self, part: Part) -> Iterable[Said]:
        match part:
            case Text(text=text) | Refusal(text=text):
                yield {"type": "text", "text": text}
            case Image():
                yield {"type": "image_url", "image_url": _image(part)}
            case ToolResult(parts=parts):
                yield from ({"type": "image_url", "image_url": _image(one)} for one in _images(parts))
            case Thinking():
                self._dropped.append("thinking")

    def _call(self, call: ToolCall) -> Said:
        function = {"name": call.name, "arguments": call.arguments or "{}"}
        return {"id": self._id(call.id), "type": "function", "function": function}

    def _result(self, result: ToolResult) -> Said:
        if result.is_error:
            self._dropped.append("tool_result.is_error")
        texts = [part.text for part in result.parts if isinstance(part, Text)]
        if _images(result.parts):
            texts.append(SEE_IMAGE)
        return {"role": "tool", "tool_call_id": self._id(result.call_id), "content": "\n".join(texts)}

    def _thoughts(self) -> str:
        thoughts = [part for part in self._message.parts if isinstance(part, Thinking)]
        told = [part.text for part in thoughts if self._quirks.reasoning and not part.signature]
        if len(told) < len(thoughts):
            self._dropped.append("thinking")
        return "".join(told)

    def _id(self, call_id: str) -> str:
        return fitting(call_id, self._quirks.tool_id, self._quirks.tool_id_length)


def _images(parts: Iterable[Text | Image]) -> list[Image]:
    return [part for part in parts if isinstance(part, Image)]


def _image(image: Image) -> Said:
    url = image.url or f"data:{image.media_type};base64,{image.data}"
    return {"url": url, "detail": image.detail} if image.detail else {"url": url}
