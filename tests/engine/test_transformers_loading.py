"""Model folders, and what the runtime for them says when it cannot load one."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from llm_server.contract import State
from llm_server.engine import EngineConfig, ModelConfig, folder, pytorch
from llm_server.engine.provider import EngineProvider
from tests.engine.scripted import ENDLESS, MODEL, Scripted, config, opened
from tests.engine.scripted import folder as model_folder


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """The model that every engine of a test opens."""
    made = Scripted()
    monkeypatch.setattr(pytorch, "open_model", lambda _: opened(made))
    return made


async def failed(settings: EngineConfig) -> str:
    """What an engine that cannot load its model says."""
    made = EngineProvider(settings)
    await made.start()
    state, message = made.state()
    await made.close()
    assert state is State.FAILED
    return message.removeprefix(f"{MODEL}: ")


@pytest.mark.parametrize("package", ["torch", "transformers", "outlines"])
async def test_a_missing_package_is_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    monkeypatch.setitem(sys.modules, package, None)
    message = await failed(config(tmp_path))
    assert message.endswith("is not installed: pip install 'llm-server[outlines]'")
    assert package in message


async def test_a_missing_engine_is_named(
    model: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xgrammar", None)
    message = await failed(config(tmp_path, "xgrammar"))
    assert message == "xgrammar is not installed: pip install xgrammar"


async def test_a_tokenizer_that_the_engine_does_not_take_is_said(
    model: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytorch, "open_model", lambda _: (None, SimpleNamespace(tensor_library_name="numpy")))
    message = await failed(config(tmp_path))
    assert message.startswith(f"Outlines cannot steer {tmp_path} by llguidance: Unsupported model type")


async def test_other_runtimes_take_no_folder(tmp_path: Path) -> None:
    message = await failed(config(tmp_path, runtime="xllamacpp"))
    assert message == f"{tmp_path} is a folder; xllamacpp takes GGUF files."


async def test_a_context_longer_than_the_models(tmp_path: Path) -> None:
    wanted = ModelConfig(name=MODEL, path=tmp_path, context=ENDLESS + 1)
    message = await failed(config(tmp_path, models=(wanted,)))
    assert f"more than the {ENDLESS} tokens" in message


def test_a_folder_says_what_its_model_is(tmp_path: Path) -> None:
    file = folder.read(model_folder(tmp_path))
    assert (file.architecture, file.context, file.bos_token, file.eos_token) == (
        "scripted",
        ENDLESS,
        "<s>",
        "</s>",
    )
    assert "m.role" in file.chat_template


def test_a_template_in_a_file_of_its_own_goes_first(tmp_path: Path) -> None:
    (model_folder(tmp_path) / "chat_template.jinja").write_text("own")
    assert folder.read(tmp_path).chat_template == "own"


def test_named_templates_and_nested_sizes(tmp_path: Path) -> None:
    model_folder(tmp_path, text_config={"max_position_embeddings": 99})
    named = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    file = folder.read(tmp_path)
    assert (file.chat_template, file.context, file.bos_token) == ("yes", 99, "")


@pytest.mark.parametrize(("text", "why"), [(None, "no config.json"), ("[", "not a JSON object")])
def test_a_folder_that_is_none(tmp_path: Path, text: str | None, why: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(folder.FolderError, match=why):
        folder.read(tmp_path)
