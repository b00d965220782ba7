"""What a structured answer costs beside the same answer without a form: CPU time of the stage, warm.

The provider is a fake that answers at once, so that what is left is the stage's own work: finding the plan,
writing the call, reading, validating and noting the answer. A stream is passed on as it comes where the model
is held to the form (native), and held back until it is valid elsewhere (tool, prompt).

Plain and structured calls take turns, so that both meet the same machine. Each figure is a median over the
calls of a round, of the best of many short rounds: whatever else the machine does can only make it worse.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable
from contextlib import aclosing
from statistics import median

import msgspec
from msgspec import Raw

from llm_server.contract import (
    Answer,
    Call,
    ChatCall,
    Choice,
    Completion,
    Context,
    Events,
    Facts,
    Handler,
    Message,
    OutputFormat,
    Role,
    Text,
    ToolCall,
    Usage,
    unfold,
)
from llm_server.providers import ROWS
from llm_server.structured.stage import Structured
from llm_server.testing import FakeProvider

TARGET_US = 50.0
"""CPU microseconds that a form may cost at the median, with a warm schema."""

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1},
        "year": {"type": "integer", "minimum": 1450},
        "authors": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "publisher": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "city": {"type": "string"}},
            "required": ["name", "city"],
            "additionalProperties": False,
        },
        "kind": {"enum": ["novel", "poem", "play"]},
    },
    "required": ["title", "year", "authors", "publisher", "kind"],
    "additionalProperties": False,
}
BOOK = {
    "title": "Middlemarch",
    "year": 1871,
    "authors": ["George Eliot"],
    "publisher": {"name": "William Blackwood and Sons", "city": "Edinburgh"},
    "kind": "novel",
}
METHODS: dict[str, Facts] = {
    "native": ROWS["openai"].facts,
    "tool": Facts(json_schema=False),
    "prompt": Facts(json_schema=False, tools=False),
}


def said(call: Call) -> Iterable[Answer]:
    """Answer in the way that is asked for."""
    text = msgspec.json.encode(BOOK).decode()
    tool = call.forced_tool if isinstance(call, ChatCall) else None
    part = ToolCall("call_1", tool.name, text) if tool else Text(text)
    whole = Completion(id="a", model="m", choices=(Choice(parts=(part,)),), usage=Usage(input_tokens=9))
    return unfold(whole) if call.stream else (whole,)


class Forgetful(FakeProvider):
    """Remembers no calls: thousands of them would be collected as garbage at random moments."""

    def __call__(self, call: Call, ctx: Context) -> Events:
        self.calls.clear()
        return super().__call__(call, ctx)


async def cpu_us(handler: Handler, call: ChatCall) -> float:
    """Return the CPU microseconds that the answer to ``call`` takes."""
    ctx = Context(request_id="r")
    began = time.process_time_ns()
    async with aclosing(handler(call, ctx)) as answers:
        async for _answer in answers:
            pass
    return (time.process_time_ns() - began) / 1000


async def medians_us(handler: Handler, calls: int, *, stream: bool) -> tuple[float, float]:
    """Return the medians of plain and of structured calls that take turns."""
    took: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(calls):
        for structured, times in took.items():
            times.append(await cpu_us(handler, ask(stream=stream, structured=structured)))
    return median(took[False]), median(took[True])


def ask(*, stream: bool, structured: bool) -> ChatCall:
    """Return a call as it comes from the wire: its schema is bytes that nobody saw before."""
    output = OutputFormat(
        kind="json_schema", schema=Raw(msgspec.json.encode(SCHEMA)), name="book", strict=True
    )
    message = Message(Role.USER, (Text("Which book is it?"),))
    return ChatCall(model="m", stream=stream, messages=(message,), output=output if structured else None)


async def measure(calls: int, rounds: int) -> bool:
    held = True
    print(f"CPU microseconds a call, median of {calls} calls, best of {rounds} rounds")
    print(f"{'method':8} {'form':8} {'plain':>8} {'structured':>11} {'overhead':>9}  target {TARGET_US:g}")
    stages = {name: Structured(Forgetful(script=said, facts=facts)) for name, facts in METHODS.items()}
    cells = [(name, stream) for name in stages for stream in (False, True)]
    found = [
        [await medians_us(stages[name], calls, stream=stream) for name, stream in cells]
        for _ in range(rounds)
    ]
    for (name, stream), times in zip(cells, zip(*found, strict=True), strict=True):
        plain, formed = (min(each) for each in zip(*times, strict=True))
        overhead = formed - plain
        held = held and overhead <= TARGET_US
        form = "stream" if stream else "whole"
        print(f"{name:8} {form:8} {plain:8.1f} {formed:11.1f} {overhead:9.1f}")
    print("held" if held else "NOT HELD")
    return held


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    sys.exit(0 if asyncio.run(measure(options.calls, options.rounds)) else 1)
