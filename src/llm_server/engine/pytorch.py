"""A model of the Transformers library, on PyTorch: tokens in, tokens out."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from llm_server.engine.runtime import Resources, RuntimeLoadError

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

_EXTRA = "pip install 'llm-server[outlines]'"

Choose = Callable[[int, "NDArray[float32]"], int]
"""Given the last token and what the model thinks of each as the next, returns the next."""


class TorchModel:
    """A causal language model and its tokenizer. Its methods may run in several threads at a time.

    Args:
        model: a ``PreTrainedModel``, of which only ``generate`` and ``generation_config`` are used.
        tokenizer: its ``PreTrainedTokenizerFast``.
        tensor: makes a tensor of token numbers on the model's device.
        array: returns logits as an array of this process's memory that may be changed.
    """

    def __init__(
        self, model: Any, tokenizer: Any, tensor: Callable[[Any], Any], array: Callable[[Any], Any]
    ) -> None:
        self.vocabulary = max(tokenizer.get_vocab().values()) + 1
        """Tokens with a number below this have a meaning; models may have more, for no reason but speed."""
        ends = model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        self.ends = frozenset({*ends, tokenizer.eos_token_id} - {None})
        """The tokens that end a text."""
        self._model, self._tokenizer = model, tokenizer
        self._tensor, self._array = tensor, array
        self._encoding = Lock()

    def encode(self, text: str) -> list[int]:
        """Return the tokens of ``text``, special ones in it recognised, and one before it if it lacks it."""
        bos = self._tokenizer.bos_token
        with self._encoding:  # the Rust below refuses two at a time
            tokens: list[int] = self._tokenizer.encode(
                text, add_special_tokens=not (bos and text.startswith(bos))
            )
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``, without special ones."""
        text: str = self._tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def run(self, prompt: list[int], limit: int, choose: Choose, told: Callable[[int], bool]) -> None:
        """Generate at most ``limit`` tokens after ``prompt``, until one of them is an end.

        Args:
            prompt: at least one token.
            limit: at least 1.
            choose: called at every step; may raise.
            told: called with every token, the end included; returns whether it is enough.
        """

        def choice(ids: Any, scores: Any) -> Any:
            token = choose(int(ids[0, -1]), self._array(scores)[: self.vocabulary])
            scores[:] = float("-inf")
            scores[0, token] = 0.0
            return scores

        def enough(ids: Any, _scores: Any, **_options: Any) -> bool:
            return told(int(ids[0, -1]))

        self._model.generate(
            input_ids=self._tensor([prompt]),
            attention_mask=self._tensor([[1] * len(prompt)]),
            max_new_tokens=limit,
            do_sample=False,  # which token is best was decided by `choice`
            logits_processor=[choice],
            stopping_criteria=[enough],
        )


def open_model(resources: Resources) -> tuple[TorchModel, Any]:
    """Load a model folder, or a GGUF file; return the model, and the same as Outlines wants it.

    Nothing is fetched, and no code that a folder brings is run.

    Raises:
        RuntimeLoadError: a package is missing, or the model cannot be loaded.
    """
    try:
        import outlines
        import torch
        import transformers
    except ImportError as error:
        raise RuntimeLoadError(f"{error.name} is not installed: {_EXTRA}") from error
    torch.set_num_threads(resources.threads)
    # Outlines has masks compiled by a C++ compiler, if there is one, in the middle of the first request.
    torch.compiler.set_stance("force_eager")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model, tokenizer = _loaded(transformers, Path(resources.path), device)
    except Exception as error:  # whatever a model's files may be the cause of
        raise RuntimeLoadError(f"Transformers cannot load {resources.path}: {error}") from error
    if not tokenizer.is_fast:
        raise RuntimeLoadError(f"{resources.path} has no tokenizer.json, which this runtime needs.")
    made = TorchModel(model, tokenizer, partial(torch.tensor, device=device), _row)
    steered = outlines.from_transformers(model, tokenizer)
    # Logits are arrays here: llguidance masks them as they are, the others only as tensors.
    steered.tensor_library_name = "numpy" if resources.outlines_backend == "llguidance" else "torch"
    return made, steered


def _loaded(transformers: Any, path: Path, device: str) -> tuple[Any, Any]:
    transformers.utils.logging.disable_progress_bar()
    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if path.is_file():
        where["gguf_file"] = path.name
        path = path.parent
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, **where)
    # Processors without matrix units compute narrow types slower than these.
    dtype = "float32" if device == "cpu" else "auto"
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **where).to(device).eval()
    # How to sample is said with every request: of what the model's makers recommend only the ends hold.
    recommended = model.generation_config
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=recommended.eos_token_id,
        bos_token_id=recommended.bos_token_id,
        pad_token_id=recommended.pad_token_id or tokenizer.eos_token_id,
    )
    return model, tokenizer


def _row(scores: Any) -> Any:
    return scores[0].float().cpu().numpy().copy()
