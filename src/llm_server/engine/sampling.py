"""Choose the next token from what a model thinks of each: with a seed of its own for every request.

The libraries draw from one random state for the whole process, so that requests at the same time would change
each other's answers.
"""

from collections import Counter
from typing import TYPE_CHECKING

from llm_server.engine.runtime import Generation

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

_SEEDS = 2**64


class NothingAllowedError(Exception):
    """No token may come next."""


class Sampler:
    """Draws the tokens of one generation. The order is that of vLLM: penalties, temperature, top-k, top-p."""

    def __init__(self, generation: Generation) -> None:
        import numpy as np

        self._np = np
        seed = generation.seed
        self._random = np.random.default_rng(None if seed is None else seed % _SEEDS)
        self._wanted = generation
        self._counts: Counter[int] = Counter()

    def draw(self, logits: "NDArray[float32]") -> int:
        """Return the number of the next token; ``logits``, one for each token, may be changed.

        Raises:
            NothingAllowedError: all of them are minus infinity.
        """
        self._penalise(logits)
        best = int(logits.argmax())
        if not self._np.isfinite(logits[best]):
            raise NothingAllowedError
        token = best if self._wanted.temperature == 0 else self._drawn(logits)
        self._counts[token] += 1
        return token

    def _penalise(self, logits: "NDArray[float32]") -> None:
        """As in https://platform.openai.com/docs/api-reference/chat/create (`frequency_penalty`)."""
        frequency, presence = self._wanted.frequency_penalty, self._wanted.presence_penalty
        if frequency or presence:
            for token, times in self._counts.items():
                logits[token] -= frequency * times + presence

    def _drawn(self, logits: "NDArray[float32]") -> int:
        np, wanted = self._np, self._wanted
        tokens = np.flatnonzero(np.isfinite(logits))  # of what a form allows there are often few
        if 0 < wanted.top_k < len(tokens):
            tokens = tokens[np.argpartition(logits[tokens], -wanted.top_k)[-wanted.top_k :]]
        if wanted.top_p < 1:
            tokens = tokens[np.argsort(-logits[tokens])]
        scaled = logits[tokens].astype(np.float64) / wanted.temperature
        sums = np.cumsum(np.exp(scaled - scaled.max()))
        if wanted.top_p < 1:  # the fewest tokens that reach it together
            sums = sums[: int(np.searchsorted(sums, wanted.top_p * sums[-1])) + 1]
        at = int(np.searchsorted(sums, self._random.random() * sums[-1], side="right"))
        return int(tokens[min(at, len(sums) - 1)])
