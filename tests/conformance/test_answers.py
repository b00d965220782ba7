"""Every case of every row, asked for over loopback: whole and streamed come to what the corpus states."""

import msgspec
import pytest

from llm_server.contract import Chunk, Completion, Embeddings, ServerError, TokenCount, fold
from tests.conformance.enrolled import CHATS, Enrolled, ask, call_for, each, provider, rows
from tests.conformance.expected import FAILS, answers, call_ids, failure, heard, statement, usage
from tests.upstreams.cases import Case, exists, load
from tests.upstreams.server import scripted, vendor

COMPLETING = {"facts": {"*": {"completions": True}}}
"""The configuration of a model with native text completions: of most vendors only some, old ones."""


def at(who: Enrolled, case: Case) -> str:
    """Return the path that the vendor documents for a case: this row's, where it has moved since."""
    moved = {"deepseek": ("/", "/v1/"), "azure": (f"/openai/deployments/{_deployment(case)}/", "/openai/v1/")}
    if who.row.name in moved and not who.version:
        return case.path.replace(*moved[who.row.name], 1)
    return case.path


def _deployment(case: Case) -> str:
    return case.path.removeprefix("/openai/deployments/").partition("/")[0]


async def told(who: Enrolled, case: Case, dialect: str = "") -> Completion:
    """Return the whole answer that the row's provider gives for a case, folded if it streams."""
    more = COMPLETING if case.operation == "completions" else {}
    async with scripted(case) as up, provider(who, up, **more) as given:
        said = await ask(given, call_for(case, dialect))
        assert [request.path for request in up.requests] == [at(who, case)]
    if case.form == "stream":
        return fold(chunk for chunk in said if isinstance(chunk, Chunk))
    (whole,) = said
    assert isinstance(whole, Completion)
    return whole


def comparable(completion: Completion) -> Completion:
    """Return what a whole and a streamed answer share: all but id, time and the bytes they came in."""
    return msgspec.structs.replace(completion, id="", created=0, raw=b"")


def fails(case: Case) -> bool:
    return failure(case) is not None


@each(*CHATS, "completions", where=fails)
async def test_a_failure_with_status_200_is_a_failure(who: Enrolled, case: Case) -> None:
    with pytest.raises(ServerError) as caught:
        await told(who, case)
    assert (caught.value.kind, caught.value.provider) == (failure(case), who.row.name)


@each(*CHATS, "completions", where=answers)
async def test_an_answer_is_what_the_corpus_states(who: Enrolled, case: Case) -> None:
    completion = await told(who, case)
    assert heard(completion) == statement(case)
    assert completion.usage == usage(who, case)
    stated = [call.get("id") for call in case.answer.get("tools", ())]
    found = call_ids(completion)
    assert all(found)
    assert len(set(found)) == len(found)
    assert [one for one in found if one in stated] == [one for one in stated if one]


def paired(case: Case) -> bool:
    return answers(case) and exists(case.vendor, case.name, "stream")


@each(*CHATS, "completions", form="whole", where=paired)
async def test_a_stream_folds_into_the_whole_answer(who: Enrolled, case: Case) -> None:
    streamed = load(case.vendor, case.name, "stream")
    assert comparable(await told(who, streamed)) == comparable(await told(who, case))


def test_every_failure_is_in_the_corpus() -> None:
    for vendor_name, _, name in (known.partition("/") for known in FAILS):
        assert exists(vendor_name, name, "whole") or exists(vendor_name, name, "stream")


@each("embeddings")
async def test_vectors_come_in_order_and_as_stated(who: Enrolled, case: Case) -> None:
    async with scripted(case) as up, provider(who, up) as given:
        (answer,) = await ask(given, call_for(case))
        assert [request.path for request in up.requests] == [at(who, case)]
    assert isinstance(answer, Embeddings)
    assert [list(vector) for vector in answer.vectors] == case.answer["vectors"]
    assert answer.usage == usage(who, case)


@each("count_tokens")
async def test_a_count_is_as_stated(who: Enrolled, case: Case) -> None:
    async with scripted(case) as up, provider(who, up) as given:
        assert await ask(given, call_for(case)) == [TokenCount(input_tokens=case.answer["usage"]["input"])]
        assert [request.path for request in up.requests] == [at(who, case)]


@rows()
async def test_the_models_listed_are_those_of_the_vendor(who: Enrolled) -> None:
    async with vendor(who.vendor) as up, provider(who, up) as given:
        models = await given.models()
        assert {request.method for request in up.requests} == {"GET"}
    stated = load(who.vendor, "models").answer["models"]
    assert [model.id for model in models] == [name.removeprefix("models/") for name in stated]
    assert {model.provider for model in models} == {who.row.name}
