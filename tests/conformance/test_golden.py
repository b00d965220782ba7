"""The exact outbound request of each fixed call, for each row, from callers of each dialect."""

import pytest

from tests.conformance import golden
from tests.conformance.calls import ASKED, Asked
from tests.conformance.enrolled import ENROLLED, Enrolled, provider, rows
from tests.upstreams.server import vendor

FIXED = [
    pytest.param(who, asked, id=f"{who.id}/{asked.caller}/{asked.name}")
    for who in ENROLLED
    for asked in ASKED
]
ELDERS = [
    pytest.param(who, asked, id=f"{who.id}/{asked.caller}/{asked.name}")
    for who in ENROLLED
    if who.row.dialect in golden.ELDER
    for asked in ASKED
    if asked.name
    in {"reasoning", "reasoning_off", "thinking", "thinking_off", "effort", "tool_results", "tool_image"}
]


def compare(found: dict[str, object], who: Enrolled, caller: str, name: str, update: bool) -> None:
    path = golden.path_of(who, caller, name)
    if update:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(golden.text_of(found))
    # As text: the order of fields is the caller's, where the caller's own bytes went on.
    assert golden.text_of(found) == path.read_text()


@pytest.mark.parametrize(("who", "asked"), FIXED)
async def test_the_request_is_the_golden_one(who: Enrolled, asked: Asked, update_golden: bool) -> None:
    found = await golden.captured(who, asked, golden.model_for(who, asked))
    compare(found, who, asked.caller, asked.name, update_golden)


@pytest.mark.parametrize(("who", "asked"), ELDERS)
async def test_models_of_an_earlier_generation_are_asked_in_their_way(
    who: Enrolled, asked: Asked, update_golden: bool
) -> None:
    found = await golden.captured(who, asked, golden.ELDER[who.row.dialect])
    compare(found, who, asked.caller, f"{asked.name}.elder", update_golden)


@rows()
async def test_the_request_for_models_is_the_golden_one(who: Enrolled, update_golden: bool) -> None:
    async with vendor(who.vendor) as up, provider(who, up) as given:
        await given.models()
        found = {"requests": [golden.written(request) for request in up.requests]}
    compare(found, who, "", "models", update_golden)


def test_no_golden_file_is_left_over() -> None:
    expected = {
        golden.path_of(*param.values[:1], asked.caller, asked.name)
        for param in FIXED
        for asked in [param.values[1]]
    }
    expected |= {
        golden.path_of(who, asked.caller, f"{asked.name}.elder")
        for who, asked in (param.values for param in ELDERS)
    }
    expected |= {golden.path_of(who, "", "models") for who in ENROLLED}
    assert set(golden.GOLDEN.rglob("*.json")) == expected
