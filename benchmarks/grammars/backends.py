"""Three engines of constrained decoding behind one shape, on one vocabulary.

``compile`` raises when the engine refuses a schema. ``walk`` feeds an instance token by token, as decoding
does: the mask is made, then the token taken. Processor time of the calling thread is what is measured.
"""

import importlib.machinery
import json
import sys
import types
from abc import ABC, abstractmethod
from time import thread_time
from typing import Any, ClassVar, NamedTuple

from msgspec import Raw

from grammars.vocabulary import END, Vocabulary
from llm_server.contract import OutputFormat
from llm_server.structured.grammar import compile_output
from llm_server.structured.schema import load


class Ready(NamedTuple):
    """What an engine made of a schema, what it promises, and the seconds that it took."""

    state: Any
    guarantee: str
    seconds: float


class Walked(NamedTuple):
    """Whether a whole instance went through, the tokens that did, and the seconds that their masks took."""

    accepted: bool
    tokens: int
    mask_s: float


class Backend(ABC):
    """One engine; ``needs`` names its package."""

    needs: ClassVar[str]

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    @abstractmethod
    def compile(self, schema: Any) -> Ready:
        """Compile ``schema``."""

    @abstractmethod
    def start(self, state: Any) -> Any:
        """Return a matcher at the beginning."""

    @abstractmethod
    def mask(self, matcher: Any) -> None:
        """Make the mask of the tokens that may come next."""

    @abstractmethod
    def take(self, matcher: Any, token: int) -> bool:
        """Take ``token``; tell whether it was allowed."""

    @abstractmethod
    def ended(self, matcher: Any) -> bool:
        """Tell whether the answer may end here."""

    def walk(self, state: Any, value: Any) -> Walked:
        """Feed ``value``, written as ``json.dumps`` writes it."""
        matcher, spent = self.start(state), 0.0
        tokens = self.vocabulary.encode(json.dumps(value, ensure_ascii=False))
        for at, token in enumerate(tokens):
            began = thread_time()
            self.mask(matcher)
            spent += thread_time() - began
            if not self.take(matcher, token):
                return Walked(False, at + 1, spent)
        return Walked(self.ended(matcher), len(tokens), spent)


class Ours(Backend):
    """llguidance through the server's own chain."""

    needs = "llguidance"
    _compiled = 0

    def compile(self, schema: Any) -> Ready:
        self._compiled += 1  # each time another text, of which nothing is remembered
        text = json.dumps(schema).encode() + b" " * self._compiled
        load(text)  # is checked and kept where it arrives, whatever the method
        began = thread_time()
        compiled = compile_output(OutputFormat(kind="json_schema", schema=Raw(text)))
        seconds = thread_time() - began
        import llguidance

        matcher = llguidance.LLMatcher(self.vocabulary.tokenizer, compiled.text, log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return Ready(matcher, compiled.guarantee, seconds)

    def start(self, state: Any) -> Any:
        return state.deep_copy()

    def mask(self, matcher: Any) -> None:
        matcher.compute_bitmask()

    def take(self, matcher: Any, token: int) -> bool:
        return bool(matcher.consume_token(token))

    def ended(self, matcher: Any) -> bool:
        return bool(matcher.is_accepting())


class XGrammar(Backend):
    """xgrammar as it comes; its masks need no torch, only its imports do."""

    needs = "xgrammar"

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        import numpy as np

        self._engine = _without_torch()
        info = self._engine.TokenizerInfo(
            vocabulary.tokens, vocab_type=self._engine.VocabType.RAW, stop_token_ids=[END]
        )
        self._compiler = self._engine.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self._mask = np.zeros((1, (len(vocabulary.tokens) + 31) // 32), dtype=np.int32)

    def compile(self, schema: Any) -> Ready:
        text = json.dumps(schema)
        began = thread_time()
        return Ready(self._compiler.compile_json_schema(text), "", thread_time() - began)

    def start(self, state: Any) -> Any:
        return self._engine.GrammarMatcher(state)

    def mask(self, matcher: Any) -> None:
        matcher.fill_next_token_bitmask(self._mask)

    def take(self, matcher: Any, token: int) -> bool:
        return bool(matcher.accept_token(token))

    def ended(self, matcher: Any) -> bool:
        return bool(matcher.accept_token(END))


class OutlinesCore(Backend):
    """outlines-core: a regular expression, indexed for the whole vocabulary."""

    needs = "outlines_core"

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        import numpy as np
        import outlines_core

        self._engine = outlines_core
        named: dict[bytes, list[int]] = {}
        for number, token in enumerate(vocabulary.tokens):
            if token and number != END:
                named.setdefault(token, []).append(number)
        self._vocabulary = outlines_core.Vocabulary(END, named)
        self._mask = np.zeros((len(vocabulary.tokens) + 31) // 32, dtype=np.int32)

    def compile(self, schema: Any) -> Ready:
        text = json.dumps(schema)
        began = thread_time()
        pattern = self._engine.json_schema.build_regex_from_schema(text)
        return Ready(self._engine.Index(pattern, self._vocabulary), "", thread_time() - began)

    def start(self, state: Any) -> Any:
        return self._engine.Guide(state)

    def mask(self, matcher: Any) -> None:
        matcher.write_mask_into(self._mask.ctypes.data, self._mask.size, self._mask.itemsize)

    def take(self, matcher: Any, token: int) -> bool:
        if not matcher.accepts_tokens([token]):
            return False
        matcher.advance(token, False)
        return True

    def ended(self, matcher: Any) -> bool:
        return bool(matcher.accepts_tokens([END]) or matcher.is_finished())


class _Absent:
    """Whatever an import wants of a package that is not there."""

    def __init__(self, *_: Any, **__: Any) -> None: ...


class _AbsentModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Absent,), {})


def _without_torch() -> Any:
    """Import xgrammar without torch and transformers, which its compiler and matcher do not use (2 GB)."""
    import tvm_ffi  # noqa: F401  looks for torch itself, and is right that there is none

    names = [name for name in ("torch", "transformers") if name not in sys.modules]
    for name in names:
        sys.modules[name] = _AbsentModule(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
    import xgrammar

    for name in names:
        del sys.modules[name]
    return xgrammar


BACKENDS: dict[str, type[Backend]] = {
    "llguidance (ours)": Ours,
    "xgrammar": XGrammar,
    "outlines-core": OutlinesCore,
}
