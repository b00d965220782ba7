"""Every case of every row, asked for over loopback: whole and streamed come to what the corpus states."""

import msgspec
import pytest

from llm_server.contract import Chunk, Completion, Embeddings, ServerError, TokenCount, fold
from tests.conformance.enrolled import CHATS, Enrolled, ask, call_for, each, provider, rows
from tests.conformance.expected import call_ids, failure, heard, statement, usage
from tests.upstreams.cases import Case, load
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
        answers = await ask(given, call_for(case, dialect))
        assert [request.path for request in up.requests] == [at(who, case)]
    if case.form == "stream":
        return fold(chunk for chunk in answers if isinstance(chunk, Chunk))
    (whole,) = answers
    assert isinstance(whole, Completion)
    return whole


def comparable(completion: Completion) -> Completion:
    """Return what a whole and a streamed answer must share: all but their ids and times and the bytes they came in."""
    return msgspec.structs.replace(completion, id="", created=0, raw=b"")


@each(*CHATS, "completions")
async def test_an_answer_is_what_the_corpus_states(who: Enrolled, case: Case) -> None:
    kind = failure(case)
    if kind is not None:
        with pytest.raises(ServerError) as caught:
            await told(who, case)
        assert (caught.value.kind, caught.value.provider) == (kind, who.row.name)
        return
    completion = await told(who, case)
    assert heard(completion) == statement(case)
    assert completion.usage == usage(who, case)
    stated = [call.get("id") for call in case.answer.get("tools", ())]
    found = call_ids(completion)
    assert all(found)
    assert len(set(found)) == len(found)
    assert [one for one in found if one in stated] == [one for one in stated if one]


@each(*CHATS, "completions", form="whole")
async def test_a_stream_folds_into_the_whole_answer(who: Enrolled, case: Case) -> None:
    streamed = [other for other in who.cases(form="stream") if other.name == case.name]
    if failure(case) is not None:
        assert all(failure(other) == failure(case) for other in streamed)
        return
    whole = comparable(await told(who, case))
    for other in streamed:
        assert comparable(await told(who, other)) == whole


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
