"""Outlines: hold a model of the Transformers library to a form, by any of the engines that it knows.

What Outlines calls a generator keeps how far one text has come in its logits processor: two requests that
share one corrupt each other. So each request has a processor of its own. What is compiled is shared.
"""

import re
from collections import OrderedDict
from copy import copy
from threading import Lock
from typing import TYPE_CHECKING, Any

from llm_server.contract import ErrorKind, ServerError
from llm_server.engine.constraint import Constraint
from llm_server.engine.runtime import Backend, Form, Generation

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

_REMEMBERED = 64
"""Compiled forms; one of outlines_core can take megabytes."""
_SHOWN = 200
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
"""What stands for itself behind a backslash, in every engine's patterns."""
_SOURCE = re.compile(r"^\[[\d:]+\] \S+: ")
"""Where in its own source xgrammar says that an error is from."""


class Steering:
    """Compiles forms for one model.

    Args:
        model: what ``outlines.from_transformers`` returns.
        backend: the engine.

    Raises:
        ImportError: the engine is not installed.
        ValueError: it does not take the model's tokenizer.
    """

    def __init__(self, model: Any, backend: Backend) -> None:
        from outlines import backends

        kinds: dict[Backend, Any] = {
            "llguidance": backends.LLGuidanceBackend,
            "outlines_core": backends.OutlinesCoreBackend,
            "xgrammar": backends.XGrammarBackend,
        }
        self.backend = backend
        self._engine = kinds[backend](model)
        self._compiled: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._lock = Lock()

    def rein(self, generation: Generation) -> "Rein | None":
        """Return what holds ``generation`` to its form, for it alone; ``None`` if it is free.

        Takes as long as the engine compiles, without an end in sight for some schemas with outlines_core.

        Raises:
            ServerError: ``INVALID_REQUEST`` for a grammar that is none, ``UNSUPPORTED`` for a form that the
                engine does not take.
        """
        if generation.constraint is None:
            return None
        referee = Constraint(
            generation.constraint
        )  # whichever engine it is, nothing is taken that is no grammar
        key = self._asked(generation.constraint, generation.form)
        with self._lock:
            fresh = self._compiled.pop(key, None)
        if fresh is None:
            fresh = self._compile(*key)
        with self._lock:
            self._compiled[key] = fresh
            if len(self._compiled) > _REMEMBERED:
                self._compiled.popitem(last=False)
        # A copy of one that is never used shares what is compiled, and has no state yet.
        return Rein(copy(fresh), referee if self.backend == "llguidance" else None)

    def _asked(self, constraint: str, form: Form | None) -> tuple[str, str]:
        """Return which kind of form the engine is given, and its text.

        llguidance gets the grammar that was compiled for it; the others compile the form as it was asked for.
        """
        if self.backend == "llguidance" or form is None:
            return "grammar", constraint
        if form.kind == "choice":
            return "regex", "|".join(_SPECIAL.sub(r"\\\g<0>", choice) for choice in form.choices)
        return form.kind, _whole(form.text) if form.kind == "regex" else form.text

    def _compile(self, kind: str, text: str) -> Any:
        compilers: dict[str, Any] = {
            "json_schema": self._engine.get_json_schema_logits_processor,
            "regex": self._engine.get_regex_logits_processor,
            "grammar": self._engine.get_cfg_logits_processor,
        }
        try:
            return compilers[kind](text)
        except BaseException as error:  # engines of three languages; a panic in Rust is no Exception
            why = _SOURCE.sub("", str(error).partition("\n")[0])[:_SHOWN] or type(error).__name__
            message = f"The engine {self.backend} cannot hold to this form: {why}"
            raise ServerError(ErrorKind.UNSUPPORTED, message, param="response_format") from error


class Rein:
    """Holds one text to its form. For one text only.

    Args:
        processor: a logits processor of Outlines that was not used yet.
        referee: follows the text where the engine holds to the very same grammar.
    """

    def __init__(self, processor: Any, referee: Constraint | None) -> None:
        self._processor = processor
        self._referee = referee
        self._tensors = processor.tensor_library_name == "torch"

    def hold(self, last: int, logits: "NDArray[float32]") -> None:
        """Set the logits of every token to minus infinity that may not follow ``last``, in place.

        At the first call ``last`` is the end of the prompt, and does not matter.
        """
        import numpy as np

        tokens, rows = np.array([[last]]), logits[np.newaxis]
        if self._tensors:
            import torch

            self._processor(torch.from_numpy(tokens), torch.from_numpy(rows))
        else:
            logits[:] = self._processor(tokens, rows)[0]

    def strays(self, text: str) -> bool:
        """Go on by ``text``; tell whether it left the grammar, as far as that can be told here."""
        return self._referee is not None and not self._referee.takes(text)

    @property
    def open(self) -> bool:
        """Whether the text may not be over here, as far as that can be told."""
        return self._referee is not None and not self._referee.complete


def _whole(pattern: str) -> str:
    """Return ``pattern``, which matches the whole answer, without the anchors that say so."""
    pattern = pattern.removeprefix("^")
    return pattern[:-1] if pattern.endswith("$") and not pattern.endswith("\\$") else pattern
