"""A conversation as Gemini's contents: two roles that alternate, each turn a list of parts.

Sources: https://ai.google.dev/api/caching#Content and #Part; https://ai.google.dev/gemini-api/docs/function-calling;
images by URL: https://ai.google.dev/gemini-api/docs/file-input-methods.
"""

from typing import Any

from msgspec import DecodeError, json

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
from llm_server.providers.dialects.signatures import SKIP, split_id, unseal

Parts = list[dict[str, Any]]

_IMAGE_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
}


def conversation(messages: tuple[Message, ...], dropped: list[str], *, third: bool) -> tuple[Parts, Parts]:
    """Return system instruction parts and contents.

    System turns before the first other turn are the instruction. There is no place for later ones: they
    become user text where they stand, and ``dropped`` says so. Neighbouring turns of one role are joined.

    Args:
        messages: the turns.
        dropped: names of what is lost, added to.
        third: whether the model is a Gemini 3 or later, which refuses tool calls without a thought signature
            and takes images inside a tool's result.

    Raises:
        ServerError: ``UNSUPPORTED`` for content that cannot be said; ``INVALID_REQUEST`` for a tool result
            without its call, or a call whose arguments are no JSON object.
    """
    system: Parts = []
    contents: Parts = []
    scribe = _Scribe(dropped, third=third)
    for at, message in enumerate(messages):
        parts = scribe.parts(message, f"messages[{at}]")
        if message.role is Role.SYSTEM and not contents:
            system += parts
            continue
        if message.role is Role.SYSTEM:
            dropped.append("mid_conversation_system")
        role = "model" if message.role is Role.ASSISTANT else "user"
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    if third:
        _seal(contents)
    return system, contents


def _seal(contents: Parts) -> None:
    """Excuse the first tool call of each turn without a signature: only the first is signed, and checked."""
    for content in contents:
        calls = [part for part in content["parts"] if "functionCall" in part]
        if calls and not any("thoughtSignature" in call for call in calls):
            calls[0]["thoughtSignature"] = SKIP


class _Scribe:
    """Writes parts; remembers the tools that calls named, because a result must name its tool again."""

    def __init__(self, dropped: list[str], *, third: bool) -> None:
        self._dropped = dropped
        self._third = third
        self._tools: dict[str, str] = {}

    def parts(self, message: Message, param: str) -> Parts:
        """Return the parts of one turn; ``param`` is its path for error messages."""
        if message.name:
            self._dropped.append("messages.name")
        written: Parts = []
        for part in message.parts:
            if isinstance(part, Thinking):
                self._think(part, written)
            else:
                written += self._part(part, param)
        return written

    def _part(self, part: Part, param: str) -> Parts:
        match part:
            case Text() | Refusal():
                return _text(part.text)
            case Image():
                return [self._image(part, param)]
            case ToolCall():
                return [self._call(part, param)]
            case ToolResult():
                return self._result(part, param)
            case _:
                kind = part.type if isinstance(part, Opaque) else type(part).__name__
                message = f"Content of type {kind!r} cannot be sent to this provider."
                raise ServerError(ErrorKind.UNSUPPORTED, message, param=param)

    def _think(self, part: Thinking, written: Parts) -> None:
        """Add a thought that this API signed; any other is worth nothing to it."""
        signature = unseal(part.signature)
        if not signature:
            self._dropped.append("thinking")
        elif part.text:
            written.append({"text": part.text, "thought": True, "thoughtSignature": signature})
        elif written and "text" in written[-1] and "thoughtSignature" not in written[-1]:
            written[-1]["thoughtSignature"] = signature  # it signed that text: see response.py
        else:
            written.append({"text": "", "thoughtSignature": signature})

    def _image(self, image: Image, param: str) -> dict[str, Any]:
        if image.detail not in {"", "auto"}:
            self._dropped.append("image_url.detail")
        if image.data:
            return {"inlineData": {"mimeType": image.media_type, "data": image.data}}
        if not image.url.startswith(("https://", "gs://")):
            message = "This provider reads images from https and gs URLs only; send this one inline."
            raise ServerError(ErrorKind.UNSUPPORTED, message, param=param)
        file = {"fileUri": image.url}
        if media_type := image.media_type or _image_type(image.url):
            file["mimeType"] = media_type
        return {"fileData": file}

    def _call(self, call: ToolCall, param: str) -> dict[str, Any]:
        call_id, signature = split_id(call.id)
        self._tools[call.id] = call.name
        part: dict[str, Any] = {
            "functionCall": {"id": call_id, "name": call.name, "args": _arguments(call, param)}
        }
        if signature:
            part["thoughtSignature"] = signature
        return part

    def _result(self, result: ToolResult, param: str) -> Parts:
        """Return a function response with the tool's images: inside it or, before Gemini 3, after it."""
        name = self._tools.get(result.call_id)
        if name is None:
            message = f"The tool result for {result.call_id!r} answers no earlier tool call."
            raise ServerError(ErrorKind.INVALID_REQUEST, message, param=param)
        text = "".join(part.text for part in result.parts if isinstance(part, Text))
        call_id, _ = split_id(result.call_id)
        # "output" and "error" are the keys that google.genai.types.FunctionResponse documents.
        output = {"error" if result.is_error else "output": text}
        response: dict[str, Any] = {"id": call_id, "name": name, "response": output}
        images = [self._image(part, param) for part in result.parts if isinstance(part, Image)]
        if images and self._third:
            response["parts"], images = images, []
        return [{"functionResponse": response}, *images]


def _text(text: str) -> Parts:
    return [{"text": text}] if text else []


def _image_type(url: str) -> str:
    """Return the media type that the URL's file name tells; empty if it does not."""
    path = url.partition("?")[0].partition("#")[0]
    return _IMAGE_TYPES.get(path.rpartition(".")[2].lower(), "")


def _arguments(call: ToolCall, param: str) -> dict[str, Any]:
    try:
        arguments = json.decode(call.arguments or "{}")
    except DecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        message = f"The arguments of the tool call {call.name!r} are not a JSON object."
        raise ServerError(ErrorKind.INVALID_REQUEST, message, param=param)
    return arguments
