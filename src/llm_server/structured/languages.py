"""Which language is a text in? By py3langid, an optional package, with the model inside it."""

from collections.abc import Callable
from functools import cache

Classifier = Callable[[str], str]
"""Returns the code of the likeliest language of a text: ISO 639-1, of three letters where that has none."""


def classifier(wanted: str) -> Classifier:
    """Return what tells a text's language.

    Raises:
        ValueError: ``wanted`` is a language that it does not know, or the package is missing; what to do.
    """
    known, classify = _model()
    if wanted not in known:
        raise ValueError(
            f"'{wanted}' is no language that can be told: write a code such as 'en', 'de' or 'zh'"
        )
    return classify


@cache
def _model() -> tuple[frozenset[str], Classifier]:
    """Return the languages that are known, and what tells them; loading takes half a second, once."""
    try:
        import py3langid  # type: ignore[import-untyped]  # it has no stubs
    except ImportError:
        raise ValueError("needs a package: pip install 'llm-server[language]'") from None
    ranked = py3langid.rank("")
    return frozenset(str(code) for code, _ in ranked), lambda text: str(py3langid.classify(text)[0])
