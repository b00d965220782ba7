"""Requests: golden files, the vendor's own SDK as judge, tables of the fine print, and refusals."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import httpx
import pytest
from pydantic import TypeAdapter

from llm_server.contract import (
    Call,
    ChatCall,
    CountCall,
    EmbedCall,
    ErrorKind,
    Facts,
    Image,
    Message,
    Opaque,
    Reasoning,
    Role,
    Sampling,
    ServerError,
    Text,
    TextCall,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_server.providers.dialects.cohere import Cohere
from tests.providers.cohere.calls import CALLS, HELLO, MODEL, NOW, model, system, user

GOLDEN = Path(__file__).parent / "golden"
DIALECT = Cohere()
ANY = Facts()


def encoded(call: Call, facts: Facts = ANY) -> dict[str, Any]:
    request = DIALECT.encode(call, facts)
    assert request.method == "POST"
    return {"path": request.path, "body": json.loads(request.body), "dropped": list(request.dropped)}


@pytest.mark.parametrize("name", CALLS)
def test_the_request_is_the_golden_one(name: str) -> None:
    assert encoded(CALLS[name]) == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def test_every_golden_file_has_its_call() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(CALLS)


class SentError(Exception):
    """Carries the request that the SDK would have sent."""

    def __init__(self, request: httpx.Request) -> None:
        super().__init__(request.url.path)
        self.path = request.url.path.lstrip("/")
        self.body = json.loads(request.content)


@pytest.fixture
def sdk() -> Iterator[cohere.ClientV2]:
    def stop(request: httpx.Request) -> httpx.Response:
        raise SentError(request)

    with httpx.Client(transport=httpx.MockTransport(stop)) as client:
        yield cohere.ClientV2(api_key="k", httpx_client=client, max_retries=0)


@pytest.mark.parametrize("name", CALLS)
def test_coheres_sdk_sends_the_same(name: str, sdk: cohere.ClientV2) -> None:
    """Our fields given to the SDK as arguments (it refuses unknown names) become our path and body again."""
    golden = encoded(CALLS[name])
    arguments = dict(golden["body"])
    if golden["path"] == "v2/embed":
        method: Any = sdk.embed
    else:
        method = sdk.chat_stream if arguments.pop("stream", False) else sdk.chat
        golden["body"].setdefault("stream", False)
        TypeAdapter(cohere.ChatMessages).validate_python(arguments["messages"])
    with pytest.raises(SentError) as sent:
        for _ in method(**arguments):
            pass
    assert (sent.value.path, sent.value.body) == (golden["path"], golden["body"])


def test_coheres_sdk_does_refuse_unknown_names(sdk: cohere.ClientV2) -> None:
    with pytest.raises(TypeError, match="top_p"):
        sdk.chat(model=MODEL, messages=[], top_p=1)


def test_the_model_list_is_one_page() -> None:
    request = DIALECT.models_request()
    assert (request.method, request.path, request.body) == ("GET", "v1/models?page_size=1000", b"")


@pytest.mark.parametrize(
    ("reasoning", "thinking", "dropped"),
    [
        (Reasoning(), {"type": "enabled"}, []),
        (Reasoning(effort="high"), {"type": "enabled"}, []),
        (Reasoning(effort="low"), {"type": "enabled"}, ["reasoning"]),
        (Reasoning(effort="low", budget_tokens=9), {"type": "enabled", "token_budget": 9}, []),
        (Reasoning(effort="none"), {"type": "disabled"}, []),
        (Reasoning(enabled=False, budget_tokens=9), {"type": "disabled"}, []),
    ],
)
def test_reasoning(reasoning: Reasoning, thinking: dict[str, Any], dropped: list[str]) -> None:
    request = encoded(ChatCall(model=MODEL, messages=HELLO, reasoning=reasoning))
    assert (request["body"]["thinking"], request["dropped"]) == (thinking, dropped)


def test_a_model_that_cannot_think_is_not_asked_to() -> None:
    request = encoded(ChatCall(model=MODEL, messages=HELLO, reasoning=Reasoning()), Facts(reasoning=False))
    assert "thinking" not in request["body"]
    assert request["dropped"] == ["reasoning"]


@pytest.mark.parametrize(("given", "sent"), [(0.0, 0.01), (0.5, 0.5), (0.999, 0.99), (1.0, 0.99)])
def test_p_stays_in_its_range(given: float, sent: float) -> None:
    request = encoded(ChatCall(model=MODEL, messages=HELLO, sampling=Sampling(top_p=given)))
    assert request["body"]["p"] == sent
    assert request["dropped"] == ([] if sent == given else ["top_p:clamped"])


def test_refused_sampling_is_left_out_and_named() -> None:
    sampling = Sampling(temperature=0.1, top_p=0.5, seed=3, presence_penalty=0.0)
    call = ChatCall(model=MODEL, messages=HELLO, sampling=sampling)
    request = encoded(call, Facts(refuses=frozenset({"temperature", "seed", "presence_penalty"})))
    assert request["body"].keys() == {"model", "messages", "p"}
    assert request["dropped"] == ["temperature", "seed"]


def test_a_message_name_is_named_once() -> None:
    turns = (Message(Role.USER, (Text("a"),), name="ann"), Message(Role.USER, (Text("b"),), name="bob"))
    assert encoded(ChatCall(model=MODEL, messages=turns))["dropped"] == ["messages.name"]


def test_thinking_that_a_user_quotes_is_dropped() -> None:
    quoted = CALLS["thinking_history"].messages[1].parts[0]
    request = encoded(ChatCall(model=MODEL, messages=(user(quoted, "Why?"),)))
    assert request["body"]["messages"] == [{"role": "user", "content": "Why?"}]
    assert request["dropped"] == ["thinking"]


IMAGE = Image(url="https://example.com/a.png")


@pytest.mark.parametrize(
    ("call", "kind", "param", "words"),
    [
        (TextCall(model=MODEL, prompts=("x",)), ErrorKind.UNSUPPORTED, None, "text completions"),
        (CountCall(model=MODEL, messages=HELLO), ErrorKind.UNSUPPORTED, None, "count"),
        (EmbedCall(model=MODEL, inputs=("x", (1, 2))), ErrorKind.UNSUPPORTED, "input[1]", "token ids"),
        (
            ChatCall(model=MODEL, messages=HELLO, tools=(NOW,), tool_choice=ToolChoice("tool", "gone")),
            ErrorKind.INVALID_REQUEST,
            "tool_choice",
            "'gone'",
        ),
        (
            ChatCall(model=MODEL, messages=(*HELLO, user(Opaque("input_audio")))),
            ErrorKind.UNSUPPORTED,
            "messages[1]",
            "'input_audio'",
        ),
        (
            ChatCall(model=MODEL, messages=(*HELLO, model(IMAGE))),
            ErrorKind.UNSUPPORTED,
            "messages[1]",
            "'Image'",
        ),
        (ChatCall(model=MODEL, messages=(system(IMAGE),)), ErrorKind.UNSUPPORTED, "messages[0]", "'Image'"),
        (
            ChatCall(model=MODEL, messages=(user(ToolCall("c", "now", "{}")),)),
            ErrorKind.UNSUPPORTED,
            "messages[0]",
            "'ToolCall'",
        ),
        (
            ChatCall(model=MODEL, messages=(user(ToolResult(call_id="c", parts=(IMAGE,))),)),
            ErrorKind.UNSUPPORTED,
            "messages[0]",
            "'Image'",
        ),
    ],
)
def test_what_cannot_be_said_is_refused(call: Call, kind: ErrorKind, param: str | None, words: str) -> None:
    with pytest.raises(ServerError) as refused:
        DIALECT.encode(call, ANY)
    assert (refused.value.kind, refused.value.param) == (kind, param)
    assert words in refused.value.message
