"""What a structured answer costs beside the same answer without a form: CPU time of the stage, warm.

The provider is a fake that answers at once, so that what is left is the stage's own work: finding the plan,
writing the call, reading, validating and noting the answer. Each figure is the median over calls of the best
of the rounds, because whatever else the machine does can only make it worse.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from functools import partial
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
"""CPU microseconds that a form may cost at the median, with a warm schema; streams that are held back and
told anew cost more with every chunk, and are shown without being held to it."""

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


async def cpu_us(handler: Handler, make: Callable[[], ChatCall], calls: int) -> float:
    """Return the median CPU microseconds of a call, its making left out."""
    took = []
    for _ in range(calls):
        call, ctx = make(), Context(request_id="r")
        began = time.process_time_ns()
        async with aclosing(handler(call, ctx)) as answers:
            async for _answer in answers:
                pass
        took.append(time.process_time_ns() - began)
    return median(took) / 1000


def ask(*, stream: bool, structured: bool) -> ChatCall:
    """Return a call as it comes from the wire: its schema is bytes that nobody saw before."""
    output = OutputFormat(
        kind="json_schema", schema=Raw(msgspec.json.encode(SCHEMA)), name="book", strict=True
    )
    message = Message(Role.USER, (Text("Which book is it?"),))
    return ChatCall(model="m", stream=stream, messages=(message,), output=output if structured else None)


async def measure(calls: int, rounds: int) -> bool:
    held, times = True, range(rounds)
    print(f"CPU microseconds a call, median of {calls} calls, best of {rounds} rounds")
    print(f"{'method':8} {'form':8} {'plain':>8} {'structured':>11} {'overhead':>9}  target {TARGET_US:g}")
    for name, facts in METHODS.items():
        provider = Forgetful(script=said, facts=facts)
        stage = Structured(provider)
        for stream in (False, True):
            plain, formed = [
                min([await cpu_us(stage, partial(ask, stream=stream, structured=each), calls) for _ in times])
                for each in (False, True)
            ]
            overhead = formed - plain
            held = held and (overhead <= TARGET_US or (stream and name != "native"))
            form = "stream" if stream else "whole"
            print(f"{name:8} {form:8} {plain:8.1f} {formed:11.1f} {overhead:9.1f}")
    print("held" if held else "NOT HELD")
    return held


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sys.exit(0 if asyncio.run(measure(options.calls, options.rounds)) else 1)
