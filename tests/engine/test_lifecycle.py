"""Loading, what cannot be loaded, closing, and the chat template."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from pydantic import ValidationError

from llm_server.contract import (
    Context,
    ErrorKind,
    Image,
    Message,
    Provider,
    Role,
    ServerError,
    State,
    Text,
    Thinking,
    ToolCall,
)
from llm_server.engine import EngineConfig, ModelConfig
from llm_server.engine.gguf import ModelFile
from llm_server.engine.provider import EngineProvider
from llm_server.engine.template import ChatTemplate, refuse_unreadable
from tests.engine.calling import MODEL, chat, completion, inside, whole

Configure = Callable[..., EngineConfig]


async def started(config: EngineConfig) -> EngineProvider:
    engine = EngineProvider(config)
    await engine.start()
    return engine


async def test_a_model_that_is_not_installed_names_the_command(tmp_path: Path) -> None:
    engine = await started(EngineConfig(data_dir=tmp_path))
    state, message = engine.state()
    assert state is State.FAILED
    assert "llm-server models install smollm2-135m" in message
    assert await engine.models() == ()
    with pytest.raises(ServerError, match="llm-server models install smollm2-135m") as caught:
        await whole(engine, chat())
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    await engine.close()


@pytest.mark.parametrize("runtime", ["xllamacpp", "openvino"])
async def test_a_file_that_is_no_model_fails_saying_so(
    runtime: str, tmp_path: Path, configure: Configure
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"not a model")
    config = configure(
        runtime=runtime, models=({"name": "a", "path": path}, {"name": "b", "path": tmp_path / "none"})
    )
    state, message = (await started(config)).state()
    assert state is State.FAILED
    assert "is not a GGUF model file" in message
    assert f"There is no file {tmp_path / 'none'}" in message


async def test_a_model_that_llama_cpp_cannot_load_fails(tmp_path: Path, configure: Configure) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF\x03" + bytes(19))  # a head that promises nothing
    state, message = (await started(configure(models=({"name": "a", "path": path},)))).state()
    assert state is State.FAILED
    assert "llama.cpp cannot load" in message


async def test_a_context_beyond_the_models_fails(model_file: Path, configure: Configure) -> None:
    engine = await started(configure(models=(ModelConfig(name="a", path=model_file, context=9000),)))
    assert engine.state()[0] is State.FAILED
    assert "9000 is more than the 8192" in engine.state()[1]


async def test_progress_is_told_and_the_state_says_starting_until_then(configure: Configure) -> None:
    told: list[tuple[State, str]] = []
    engine = EngineProvider(configure(slots=1), lambda words: told.append((engine.state()[0], words)))
    assert isinstance(engine, Provider)
    await engine.start()
    assert [state for state, _ in told] == [State.STARTING, State.READY]
    assert told[0][1] == f"Loading {MODEL} (xllamacpp)"
    assert "ready in" in told[1][1]
    await engine.close()


async def test_loading_leaves_signals_to_the_server(configure: Configure) -> None:
    def ours(number: int, frame: FrameType | None) -> None:
        received.append(number)

    received: list[int] = []
    before = signal.signal(signal.SIGTERM, ours)
    try:
        engine = await started(configure(slots=1))
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
        assert (await whole(engine, chat(max_tokens=1))).usage.output_tokens == 1
        await engine.close()
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_closing_ends_what_runs(configure: Configure) -> None:
    engine = await started(configure(slots=1))
    answers = engine(chat("Tell a story.", stream=True), Context(request_id="test"))
    await anext(answers)
    closing = asyncio.create_task(engine.close())
    with pytest.raises(ServerError) as caught:
        async for _ in answers:
            pass
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    await closing
    assert engine.state()[0] is State.FAILED
    with pytest.raises(ServerError):
        await whole(engine, chat())


async def test_closing_right_after_loading_ends(configure: Configure) -> None:
    for _ in range(8):  # llama.cpp's loop used to miss the order to end about every other time
        engine = await started(configure(slots=1))
        await engine.close()
        assert engine.state()[0] is State.FAILED


async def test_closing_lets_what_runs_end(configure: Configure) -> None:
    engine = await started(configure(slots=1, drain_timeout_s=60.0))
    answers = engine(chat(stream=True, max_tokens=8, temperature=0.0), Context(request_id="test"))
    await anext(answers)
    closing = asyncio.create_task(engine.close())
    rest = [answer async for answer in answers]
    await closing
    assert len(rest) > 1


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="two models are called 'a'"):
        EngineConfig.model_validate({"models": [{"name": "a"}, {"name": "a"}]})


def test_threads_leave_a_core_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((None, 1), (1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert EngineConfig().thread_count == threads
    assert EngineConfig(threads=3).thread_count == 3


def template(source: str = "") -> ChatTemplate:
    return ChatTemplate(
        ModelFile(architecture="llama", context=0, chat_template=source, bos_token="<s>", eos_token="</s>")
    )


def test_a_file_without_a_template_gets_chatml() -> None:
    turns = (Message(Role.SYSTEM, (Text("Be brief."),)), Message(Role.USER, (Text("Hi"), Text("!"))))
    assert template().render(turns) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n"
    )


def test_thinking_is_left_out_of_the_history() -> None:
    turn = Message(Role.ASSISTANT, (Thinking(text="hm"), Text("Yes.")))
    assert template("{{ bos_token }}{{ messages[0].content }}").render((turn,)) == "<s>Yes."


@pytest.mark.parametrize(
    ("part", "place"),
    [
        (Image(url="https://example.com/a.png"), "messages[0].content[1]"),
        (ToolCall("1", "f", "{}"), "messages[0]"),
    ],
)
def test_other_parts_are_refused_by_their_path(part: Image | ToolCall, place: str) -> None:
    asked = chat().altered(messages=(Message(Role.USER, (Text("a"), part)),))
    with pytest.raises(ServerError) as caught:
        refuse_unreadable(asked)
    assert (caught.value.kind, caught.value.param) == (ErrorKind.UNSUPPORTED, place)


def test_a_template_that_refuses_is_the_callers_error() -> None:
    with pytest.raises(ServerError, match="roles must alternate") as caught:
        template("{{ raise_exception('roles must alternate') }}").render(())
    assert caught.value.kind is ErrorKind.INVALID_REQUEST


def test_a_template_cannot_reach_python() -> None:
    with pytest.raises(ServerError):
        template("{{ ''.__class__.__mro__[1].__subclasses__() }}").render(())


async def test_a_models_own_defaults_count_where_a_request_names_none(
    configure: Configure, model_file: Path
) -> None:
    model = ModelConfig(name=MODEL, context=256, path=model_file, max_tokens=3, system="Answer in one word.")
    engine = await started(configure(models=(model,)))
    own = chat("Hello?")
    said = (Message(Role.SYSTEM, (Text("Answer in one word."),)), *own.messages)
    try:
        bare, spelt = await whole(engine, own), await whole(engine, own.altered(messages=said))
        longer = await whole(engine, chat("Hello?", max_tokens=5))
    finally:
        await engine.close()
    assert bare.usage.input_tokens == spelt.usage.input_tokens
    assert (bare.usage.output_tokens, longer.usage.output_tokens) == (3, 5)


async def test_what_can_never_fit_is_refused_without_being_tokenised(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await started(configure())
    counted: list[str] = []
    monkeypatch.setattr(inside(engine)._loaded.runtime, "count", counted.append)
    try:
        for call in (chat("x" * 10_000_000), completion("x" * 10_000_000)):
            with pytest.raises(ServerError, match=r"at least 3906\d tokens") as caught:
                await whole(engine, call)
            assert caught.value.kind is ErrorKind.CONTEXT_OVERFLOW
    finally:
        await engine.close()
    assert counted == []
