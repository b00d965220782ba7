"""Count tokens for models whose provider cannot."""

from contextlib import aclosing

from llm_server.contract import (
    Begun,
    Call,
    ChatCall,
    Context,
    CountCall,
    ErrorKind,
    Events,
    Handler,
    Image,
    Part,
    Refusal,
    ServerError,
    Taker,
    Text,
    Thinking,
    TokenCount,
    ToolCall,
    ToolResult,
    begin_of,
)

BYTES_PER_TOKEN = 4
"""English text and code have about four bytes a token in every current vocabulary."""
TOKENS_PER_IMAGE = 1600
"""What an image costs at most before it is scaled down (docs.claude.com, vision: width x height / 750)."""
TOKENS_PER_MESSAGE = 4
"""Role and separators (OpenAI cookbook, how to count tokens with tiktoken)."""


class Counted:
    """Answers a count from the bytes where the model's provider refuses it, marked as an estimate."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._begin = begin_of(handler)

    def begin(self, call: Call, ctx: Context, taker: Taker) -> Begun | None:
        """Take the inner short way for everything but a count."""
        return None if isinstance(call, CountCall) else self._begin(call, ctx, taker)

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Pass everything through but a count that the provider does not support."""
        return self._counted(call, ctx) if isinstance(call, CountCall) else self._handler(call, ctx)

    async def _counted(self, call: CountCall, ctx: Context) -> Events:
        try:
            async with aclosing(self._handler(call, ctx)) as answers:
                async for answer in answers:
                    yield answer
        except ServerError as error:
            if error.kind is not ErrorKind.UNSUPPORTED:
                raise
            ctx.estimated.append("input_tokens")
            yield TokenCount(input_tokens=estimate(call), estimated=True)


def estimate(call: ChatCall) -> int:
    """Return about how many input tokens a conversation and its tools make."""
    parts = [part for message in call.messages for part in message.parts]
    tools = sum(len(tool.name) + len(tool.description) + len(bytes(tool.parameters)) for tool in call.tools)
    text = sum(map(_bytes, parts)) + tools
    return text // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE * len(call.messages) + 1


def _bytes(part: Part) -> int:
    match part:
        case Text(text=text) | Refusal(text=text) | Thinking(text=text):
            return len(text.encode())
        case Image():
            return TOKENS_PER_IMAGE * BYTES_PER_TOKEN
        case ToolCall(name=name, arguments=arguments):
            return len(name) + len(arguments.encode())
        case ToolResult(parts=parts):
            return sum(map(_bytes, parts))
        case _:
            return 0
