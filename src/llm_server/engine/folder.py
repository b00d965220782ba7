"""Read what a model folder, as Hugging Face lays them out, says about its model, without loading it.

Layout: https://huggingface.co/docs/transformers/main_classes/tokenizer (``save_pretrained``) and
https://huggingface.co/docs/transformers/chat_templating (where templates are kept)
"""

from pathlib import Path
from typing import Any

import msgspec

from llm_server.engine.gguf import ModelFile


class FolderError(Exception):
    """The folder is not a model folder that this server understands."""


def read(folder: Path) -> ModelFile:
    """Return what ``folder`` says about its model.

    Raises:
        FolderError: it has no ``config.json``, or a file of it is no JSON object.
        OSError: it cannot be read.
    """
    config = _object(folder / "config.json")
    if not config:
        raise FolderError(f"{folder} is not a model folder: it has no config.json.")
    tokenizer = _object(folder / "tokenizer_config.json")
    inner = config.get("text_config")  # a model of text and more
    text = inner if isinstance(inner, dict) else config
    context = text.get("max_position_embeddings")
    return ModelFile(
        architecture=str(config.get("model_type") or ""),
        context=context if isinstance(context, int) else 0,
        chat_template=_template(folder, tokenizer),
        bos_token=_token(tokenizer.get("bos_token")),
        eos_token=_token(tokenizer.get("eos_token")),
    )


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise FolderError(f"{path} is not a JSON object.") from error


def _template(folder: Path, tokenizer: dict[str, Any]) -> str:
    """Return the chat template: in a file of its own, or one or several named ones in the tokenizer's."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    template = tokenizer.get("chat_template")
    if isinstance(template, list):
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else ""


def _token(value: Any) -> str:
    """Return a special token: a text, or an object that says how it is added to the vocabulary."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else ""
