"""What is worked out at the first use of a schema is worked out in a thread: the event loop goes on."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from llm_server.contract import Facts
from llm_server.structured import grammar, schema, validation
from llm_server.structured.methods import choosing
from tests.structured.answering import GOOD, PERSON, STRICT, ask, call, forcing
from tests.structured.answering import schema as form

WORK = [(schema, "_checked"), (validation, "build"), (grammar, "simplified"), (grammar, "_validate"),
        (choosing, "rewrite")]  # fmt: skip
"""Whatever takes its time: reading a schema, building its validator, making it a grammar, rewriting it."""
ENGINE = Facts(tools=False, json_schema=False, json_object=False, grammar=True)
NATIVE = Facts(json_schema=True, schema_rules=STRICT)


def fresh(name: str) -> dict[str, Any]:
    """Return a schema that nothing remembers."""
    return {**PERSON, "title": f"{__name__} {name}", "properties": {**PERSON["properties"], name: {}}}


@pytest.mark.parametrize(
    ("facts", "forced", "used"),
    [
        (ENGINE, False, {"_checked", "build", "simplified", "_validate"}),
        (ENGINE, True, {"_checked", "build", "simplified", "_validate"}),
        (NATIVE, False, {"_checked", "build", "rewrite"}),
        (NATIVE, True, {"_checked", "build"}),
    ],
    ids=["engine", "engine, forced tool", "native", "native, forced tool"],
)
async def test_the_loop_goes_on(
    monkeypatch: pytest.MonkeyPatch, facts: Facts, forced: bool, used: set[str]
) -> None:
    """All work waits for what only the loop can give: on the loop it would wait for ever."""
    loop, done = asyncio.get_running_loop(), set()

    def waiting(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def work_when_the_loop_turned(*arguments: Any, **options: Any) -> Any:
            turned = threading.Event()
            loop.call_soon_threadsafe(turned.set)
            assert turned.wait(30), f"{name} keeps the loop"
            done.add(name)
            return work(*arguments, **options)

        return work_when_the_loop_turned

    for module, name in WORK:
        monkeypatch.setattr(module, name, waiting(name, getattr(module, name)))
    shape = fresh(f"{'tool' if forced else 'form'}_{'engine' if facts.grammar else 'native'}")
    told, _ = await ask(forcing(shape) if forced else call(form(shape)), GOOD, facts=facts)
    assert told.error is None
    assert done >= used
