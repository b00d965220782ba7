"""Turn a conversation into the text that a model was trained on: the Jinja template in its file."""

from datetime import datetime
from typing import Any, NoReturn, Protocol

import msgspec

from llm_server.contract import (
    ChatCall,
    ErrorKind,
    Image,
    Message,
    Opaque,
    Part,
    Refusal,
    ServerError,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from llm_server.engine.gguf import ModelFile

# For a file without a template: ChatML, which llama.cpp falls back to as well.
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class _Compiled(Protocol):
    def render(self, **values: Any) -> str: ...


class ChatTemplate:
    """A model's chat template, compiled. A file is not trusted: its template runs in Jinja's sandbox."""

    def __init__(self, file: ModelFile) -> None:
        self._tokens = {"bos_token": file.bos_token, "eos_token": file.eos_token}
        self._template = _compile(file.chat_template or _CHATML)

    def render(self, messages: tuple[Message, ...]) -> str:
        """Return the prompt for ``messages``, ending where the assistant's answer begins.

        Raises:
            ServerError: ``INVALID_REQUEST`` when the template refuses the conversation (such as roles in an
                order that it does not know).
        """
        turns = [{"role": message.role.value, "content": _text(message)} for message in messages]
        try:
            return self._template.render(messages=turns, add_generation_prompt=True, **self._tokens)
        except Exception as error:  # a template is a program and may raise anything
            message = f"The model's chat template refuses this conversation: {error}"
            raise ServerError(ErrorKind.INVALID_REQUEST, message, param="messages") from error


def refuse_unreadable(call: ChatCall) -> None:
    """Refuse a conversation that is not all text, in the caller's words.

    Raises:
        ServerError: ``UNSUPPORTED``, with the place in the caller's request as ``param``.
    """
    for at, message in enumerate(call.messages):
        for inner, part in enumerate(message.parts):
            if not isinstance(part, Text | Refusal | Thinking):
                # Callers have calls and results of tools beside the content.
                beside = isinstance(part, ToolCall | ToolResult)
                raise ServerError(
                    ErrorKind.UNSUPPORTED,
                    f"This model reads text only, not {_words(part)}. Leave it out or choose another model.",
                    param=f"messages[{at}]" if beside else f"messages[{at}].content[{inner}]",
                )


def _words(part: Part) -> str:
    match part:
        case Opaque(type=kind):
            return f"'{kind}'"
        case Image():
            return "images"
        case ToolCall():
            return "tool calls"
        case _:
            return "tool results"


def _text(message: Message) -> str:
    """Return the turn's text. Thinking is left out, as the model's own template would."""
    return "".join(part.text for part in message.parts if isinstance(part, Text | Refusal))


def _compile(source: str) -> _Compiled:
    # The names and options with which Hugging Face compiles chat templates.
    from jinja2.exceptions import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        encoded = msgspec.json.encode(value)
        return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda layout: datetime.now().astimezone().strftime(layout)
    return environment.from_string(source)
