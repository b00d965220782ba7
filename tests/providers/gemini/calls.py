"""Calls for the golden requests: each name here has its file in ``golden/``."""

from msgspec import Raw

from llm_server.contract import (
    Call,
    ChatCall,
    CountCall,
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
from llm_server.providers.dialects.signatures import seal, signed_id

WEATHER = Tool(
    name="get_weather",
    description="Weather of a city.",
    parameters=Raw(b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'),
)
NOW = Tool(name="now")
SIGNATURE = "EpEgCo4gAb4+9vvWwdN/NkNiCCwrqvFI8uf9IiD2A47Bm4Sga0kUTm4eQuEnsZk="
PARIS = signed_id("fc_1", SIGNATURE)


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

TOOL_TURNS = (
    user("Weather in Paris and Tokyo?"),
    model("I look.", ToolCall(PARIS, "get_weather", '{"city":"Paris"}'), ToolCall("fc_2", "now", "")),
    said(Role.TOOL, ToolResult(call_id=PARIS, parts=(Text("21 "), Text("degrees")))),
    said(Role.TOOL, ToolResult(call_id="fc_2", parts=(Text("no clock"),), is_error=True)),
    user("And?"),
)

CALLS: dict[str, Call] = {
    "text": ChatCall(model="gemini-3-flash-preview", messages=HELLO),
    "stream": ChatCall(model="models/gemini-3-flash-preview", messages=HELLO, stream=True),
    "tuned": ChatCall(model="tunedModels/a/../b?c", messages=HELLO),
    "sampling": ChatCall(
        model="gemini-2.5-flash",
        messages=HELLO,
        user="u-1",
        sampling=Sampling(
            max_tokens=50,
            temperature=0.0,
            top_p=0.9,
            top_k=40,
            seed=7,
            stop=("END", "\n\n", "c", "d", "e", "f"),
            frequency_penalty=0.5,
            presence_penalty=-0.5,
            n=2,
            logprobs=3,
            logit_bias={"50256": -100},
        ),
    ),
    "logprobs_chosen": ChatCall(model="gemini-2.5-flash", messages=HELLO, sampling=Sampling(logprobs=0)),
    "system": ChatCall(
        model="gemini-3-flash-preview",
        messages=(
            system("You are terse."),
            system(""),
            system("Say please."),
            user("Hi"),
            model("Hello."),
            user("Go on."),
            system("Stay terse."),
        ),
    ),
    "merged": ChatCall(
        model="gemini-2.5-flash",
        messages=(user("a"), user("b"), model("c", Refusal("no")), model(""), model("d"), user("e")),
    ),
    "images": ChatCall(
        model="gemini-3-flash-preview",
        messages=(
            user(
                "What?",
                Image(data="iVBORw0KGgo=", media_type="image/png", detail="high"),
                Image(url="https://generativelanguage.googleapis.com/v1beta/files/abc"),
                Image(url="https://example.com/a/cat.JPG?size=2#x", detail="auto"),
                Image(url="gs://bucket/dog.webp", media_type="image/png"),
            ),
        ),
    ),
    "tools": ChatCall(
        model="gemini-3-flash-preview",
        messages=HELLO,
        tools=(WEATHER, NOW, Tool(name="search", type="web_search")),
        parallel_tools=False,
    ),
    "tools_strict_forced": ChatCall(
        model="gemini-3-flash-preview",
        messages=HELLO,
        tools=(Tool(name="now", strict=True), WEATHER),
        tool_choice=ToolChoice("tool", "now"),
        parallel_tools=True,
    ),
    "tools_required": ChatCall(
        model="gemini-2.5-flash", messages=HELLO, tools=(WEATHER,), tool_choice=ToolChoice("required")
    ),
    "tools_none": ChatCall(
        model="gemini-2.5-flash", messages=HELLO, tools=(WEATHER,), tool_choice=ToolChoice("none")
    ),
    "tools_auto": ChatCall(
        model="gemini-2.5-flash", messages=HELLO, tools=(WEATHER,), tool_choice=ToolChoice("auto")
    ),
    "tool_results": ChatCall(model="gemini-3-flash-preview", messages=TOOL_TURNS, tools=(WEATHER, NOW)),
    "tool_results_foreign": ChatCall(
        model="gemini-flash-latest",
        messages=(
            user("Weather?"),
            model(ToolCall("toolu_1", "get_weather", '{"city":"Oslo"}'), ToolCall("toolu_2", "now", "{}")),
            user(
                ToolResult(
                    call_id="toolu_1",
                    parts=(Text("see"), Image(data="/9j/4AAQ", media_type="image/jpeg")),
                ),
                ToolResult(call_id="toolu_2", parts=(Text("noon"),)),
            ),
        ),
    ),
    "tool_results_before_3": ChatCall(
        model="gemini-2.5-pro",
        messages=(
            user("Weather?"),
            model(ToolCall("call_1", "get_weather", '{"city":"Oslo"}')),
            user(ToolResult(call_id="call_1", parts=(Image(data="/9j/4AAQ", media_type="image/jpeg"),))),
        ),
    ),
    "thinking_history": ChatCall(
        model="gemini-3-flash-preview",
        messages=(
            user("Think."),
            model(
                Thinking(text="ours, signed", signature=seal("c2lnMQ==")),
                "Done.",
                Thinking(signature=seal("c2lnMg==")),
            ),
            user("Again."),
            model(
                Thinking(text="unsigned"),
                Thinking(text="another's", signature="EqQBCgIYAhIM"),
                Thinking(signature="EmwKAhgBEgy3", redacted=True),
                Thinking(signature=seal("c2lnMw==")),
                "Done.",
            ),
            user("Thanks."),
        ),
    ),
    "json_object": ChatCall(
        model="gemini-2.5-flash", messages=HELLO, output=OutputFormat(kind="json_object")
    ),
    "json_schema": ChatCall(
        model="gemini-2.5-flash",
        messages=HELLO,
        output=OutputFormat(
            kind="json_schema",
            name="answer",
            description="The answer.",
            strict=True,
            schema=Raw(b'{"type":"object","properties":{"x":{"type":"integer"}},"required":["x"]}'),
        ),
    ),
    "reasoning_level": ChatCall(
        model="gemini-3-pro-preview",
        messages=HELLO,
        reasoning=Reasoning(effort="low", budget_tokens=2000),
    ),
    "reasoning_budget": ChatCall(
        model="gemini-2.5-flash",
        messages=HELLO,
        reasoning=Reasoning(effort="low", budget_tokens=2000),
    ),
    "count": CountCall(
        model="gemini-2.5-flash",
        messages=(system("Be brief."), user("Hi")),
        tools=(WEATHER,),
        sampling=Sampling(max_tokens=5),
    ),
    "embed": EmbedCall(model="gemini-embedding-001", inputs=("sun", "rain")),
    "embed_dimensions": EmbedCall(
        model="gemini-embedding-001", inputs=("sun",), dimensions=256, user="u-1", base64=True
    ),
}
