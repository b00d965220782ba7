"""Calls for the golden requests: each name here has its file in ``golden/``."""

from msgspec import Raw

from llm_server.contract import (
    Call,
    ChatCall,
    EmbedCall,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Refusal,
    Role,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

MODEL = "command-a-03-2025"
WEATHER = Tool(
    name="get_weather",
    description="Weather of a city.",
    parameters=Raw(b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'),
    strict=True,
)
NOW = Tool(name="now")


def said(role: Role, *parts: object) -> Message:
    """Return a turn; strings are text."""
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def user(*parts: object) -> Message:
    return said(Role.USER, *parts)


def model(*parts: object) -> Message:
    return said(Role.ASSISTANT, *parts)


def system(*parts: object) -> Message:
    return said(Role.SYSTEM, *parts)


HELLO = (user("Hello"),)

CALLS: dict[str, Call] = {
    "text": ChatCall(model=MODEL, messages=HELLO),
    "stream": ChatCall(model=MODEL, messages=HELLO, stream=True),
    "sampling": ChatCall(
        model=MODEL,
        messages=HELLO,
        user="u-1",
        sampling=Sampling(
            max_tokens=50,
            temperature=0.0,
            top_p=1.0,
            top_k=40,
            seed=7,
            stop=("a", "b", "c", "d", "e", "f"),
            frequency_penalty=0.5,
            presence_penalty=0.0,
            n=2,
            logprobs=3,
            logit_bias={"50256": -100},
        ),
    ),
    "system": ChatCall(
        model=MODEL,
        messages=(
            system("You are terse."),
            system(""),
            system("Say ", "please."),
            user("Hi"),
            model("Hello."),
            user("Go on."),
            system("Stay terse."),
            system(""),
        ),
    ),
    "assistant": ChatCall(
        model=MODEL,
        messages=(user("a", "b"), model("c", Refusal("no")), model(""), user("d")),
    ),
    "images": ChatCall(
        model="command-a-vision-07-2025",
        messages=(
            user(
                "What?",
                Image(data="iVBORw0KGgo=", media_type="image/png", detail="high"),
                Image(url="https://example.com/cat.jpg"),
            ),
        ),
    ),
    "tools": ChatCall(
        model=MODEL,
        messages=HELLO,
        tools=(WEATHER, NOW, Tool(name="search", type="web_search")),
        parallel_tools=False,
    ),
    "tools_strict": ChatCall(
        model=MODEL,
        messages=HELLO,
        tools=(WEATHER,),
        tool_choice=ToolChoice("auto"),
        parallel_tools=True,
    ),
    "tools_forced": ChatCall(
        model=MODEL, messages=HELLO, tools=(WEATHER, NOW), tool_choice=ToolChoice("tool", "now")
    ),
    "tools_required": ChatCall(model=MODEL, messages=HELLO, tools=(NOW,), tool_choice=ToolChoice("required")),
    "tools_none": ChatCall(model=MODEL, messages=HELLO, tools=(NOW,), tool_choice=ToolChoice("none")),
    "tools_opaque_only": ChatCall(
        model=MODEL,
        messages=HELLO,
        tools=(Tool(name="search", type="web_search"),),
        tool_choice=ToolChoice("required"),
    ),
    "tool_results": ChatCall(
        model=MODEL,
        messages=(
            user("Weather in Paris and Tokyo?"),
            model(
                Thinking(text="Two cities."),
                "I look.",
                ToolCall("c1", "get_weather", '{"city":"Paris"}'),
                ToolCall("c2", "now", ""),
                ToolCall("c3", "now", "{}"),
            ),
            said(Role.TOOL, ToolResult(call_id="c1", parts=(Text('{"degrees": 21}'), Text("[1]")))),
            user(
                ToolResult(call_id="c2", parts=(Text("no clock"),), is_error=True),
                "And?",
                ToolResult(call_id="c3", parts=()),
            ),
        ),
        tools=(WEATHER, NOW),
    ),
    "thinking_history": ChatCall(
        model="command-a-reasoning-08-2025",
        messages=(
            user("Think."),
            model(
                Thinking(text="unsigned"),
                Thinking(text="signed", signature="EqQBCgIYAhIM"),
                Thinking(signature="EmwKAhgBEgy3", redacted=True),
                "Done.",
            ),
            user("Thanks."),
        ),
    ),
    "json_object": ChatCall(model=MODEL, messages=HELLO, output=OutputFormat(kind="json_object")),
    "json_schema": ChatCall(
        model=MODEL,
        messages=HELLO,
        output=OutputFormat(
            kind="json_schema",
            name="answer",
            description="The answer.",
            strict=True,
            schema=Raw(b'{"type":"object","properties":{"x":{"type":"integer"}},"required":["x"]}'),
        ),
    ),
    "reasoning": ChatCall(model=MODEL, messages=HELLO, reasoning=Reasoning(effort="low", budget_tokens=2000)),
    "embed": EmbedCall(model="embed-v4.0", inputs=("sun", "rain")),
    "embed_dimensions": EmbedCall(
        model="embed-v4.0", inputs=("sun",), dimensions=256, user="u-1", base64=True
    ),
}
