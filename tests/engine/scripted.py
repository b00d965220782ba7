"""A model of the Transformers library without its weights: what it wants to say is written down."""

from collections.abc import Callable
from pathlib import Path
from threading import Barrier
from typing import Any

import msgspec
import numpy as np
from outlines.models import Transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from llm_server.engine import EngineConfig, ModelConfig
from llm_server.engine.pytorch import TorchModel
from llm_server.engine.runtime import Backend

MODEL = "scripted"
CONTEXT = 512
ENDLESS = 1_000_000
"""A context that no test fills."""
PADDING = 32
"""Logits that stand for no token, as models have them."""

_MERGES = [('"', ":"), ("{", '"'), ("n", "a"), ("m", "e"), ("na", "me"), ("r", "e"), ("re", "d")]


def tokenizer() -> PreTrainedTokenizerFast:
    """Every byte is a token, a few words are, and a text has a beginning and an end."""
    words = [
        "<s>",
        "</s>",
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        *("".join(each) for each in _MERGES),
    ]
    made = Tokenizer(BPE({word: at for at, word in enumerate(words)}, _MERGES))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


WORDS = tokenizer()


class Scripted:
    """Stands for a ``PreTrainedModel``.

    It would like to say ``wishes[prompt]`` and end; with other prompts anything, and never ends
    by itself. ``meeting``: generations wait there before every token until the others are there as well.
    """

    def __init__(self) -> None:
        self.wishes: dict[str, str] = {}
        self.meeting: Barrier | None = None
        self.failure: Exception | None = None
        self.steps = 0
        self.generation_config = msgspec.defstruct("Config", [("eos_token_id", int)])(WORDS.eos_token_id)
        self._size = len(WORDS.get_vocab()) + PADDING

    def generate(
        self,
        *,
        input_ids: Any,
        attention_mask: Any,
        max_new_tokens: int,
        do_sample: bool,
        logits_processor: list[Callable[[Any, Any], Any]],
        stopping_criteria: list[Callable[..., bool]],
    ) -> Any:
        assert input_ids.shape == attention_mask.shape
        assert not do_sample
        wish = self._wish(WORDS.decode(input_ids[0]))
        for step in range(max_new_tokens):
            if self.meeting is not None:
                self.meeting.wait(30)
            if self.failure is not None:
                raise self.failure
            self.steps += 1
            scores = np.zeros((1, self._size), np.float32)
            scores[0, -PADDING:] = 99.0
            scores[0, WORDS.eos_token_id] = -50.0
            if wish:
                scores[0, wish[min(step, len(wish) - 1)]] = 50.0
            for processor in logits_processor:
                scores = processor(input_ids, scores)
            token = int(scores[0].argmax())
            input_ids = np.append(input_ids, [[token]], axis=1)
            if any(enough(input_ids, scores) for enough in stopping_criteria):
                break
            if token == WORDS.eos_token_id:
                break
        return input_ids

    def _wish(self, prompt: str) -> list[int]:
        text = next((said for asked, said in self.wishes.items() if asked in prompt), None)
        if text is None:
            return []
        return [*WORDS.encode(text, add_special_tokens=False), WORDS.eos_token_id]


def opened(model: Scripted) -> tuple[TorchModel, Transformers]:
    """What ``open_model`` returns, with arrays in the place of tensors."""
    return TorchModel(model, WORDS, np.array, lambda scores: scores[0].copy()), steerable()


def steerable() -> Transformers:
    """A model as Outlines knows it, computing with arrays."""
    made = Transformers(None, WORDS)
    made.tensor_library_name = "numpy"
    return made


def folder(path: Path, **config: object) -> Path:
    """A model folder without weights, with a chat template."""
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    files = {
        "config.json": {"model_type": "scripted", "max_position_embeddings": ENDLESS} | config,
        "tokenizer_config.json": {
            "chat_template": template,
            "bos_token": "<s>",
            "eos_token": {"content": "</s>"},
        },
    }
    for name, value in files.items():
        (path / name).write_bytes(msgspec.json.encode(value))
    return path


def config(
    path: Path, backend: Backend = "llguidance", context: int = CONTEXT, **changes: Any
) -> EngineConfig:
    """An engine that runs the model; ``path`` becomes its folder."""
    wanted = {
        "runtime": "transformers",
        "outlines_backend": backend,
        "models": (ModelConfig(name=MODEL, path=folder(path), context=context, top_k=0, top_p=1),),
        "slots": 3,
        "drain_timeout_s": 0.0,
    }
    return EngineConfig.model_validate(wanted | changes)
