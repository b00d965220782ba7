"""The name of an upstream stands in its row and its dialect, and nowhere else in the program's code.

What counts is code: identifiers, strings and the names of files. Docstrings, comments, and the
descriptions and examples of a schema are prose, which may cite the vendor page that a rule comes from.
Two vendors' protocols are also public dialects that this server speaks to its callers; the name of such
a *dialect* may stand where the dialect is served, and only there.
"""

import ast
import re
from collections.abc import Iterator

import pytest

from llm_server.providers.rows import ROWS
from tests.repository.tree import ROOT, python

ORDINARY = {"together", "meta", "llama"}
"""Names of upstreams that are also words of this trade; in code they cannot be told apart."""

VENDORS = {*ROWS, "anthropic", "bedrock", "claude", "gemini", "lmstudio", "vertex", "xai"} - ORDINARY

PROSE = ("description", "examples")
HOME = ("providers", "catalog")
SERVED_DIALECTS = {"openai", "anthropic"}
SERVED_IN = ("wire", "api")


def words(name: str) -> set[str]:
    """Return the words of an identifier or string: ``AnthropicStream_v2`` -> anthropic, stream, v, 2."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name.replace("OpenAI", "Openai").replace("xAI", "Xai"))
    return set(re.findall(r"[a-z]+|\d+", spaced.lower()))


def prose(tree: ast.AST) -> set[int]:
    """Return the ids of the strings that are for people: docstrings, notes under constants, schema texts."""
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            found.append(node.value)
        elif isinstance(node, ast.keyword) and node.arg in PROSE:
            found.extend(ast.walk(node.value))
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            texts = (v for k, v in pairs if isinstance(k, ast.Constant) and k.value in PROSE)
            found.extend(inner for value in texts for inner in ast.walk(value))
    return {id(node) for node in found if isinstance(node, ast.Constant)}


def named(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every identifier and string in code."""
    tree = ast.parse(text)
    skipped = prose(tree)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for field in ("id", "attr", "name", "arg", "asname", "module"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield line, value
        if isinstance(node, ast.Constant) and id(node) not in skipped and isinstance(node.value, str | bytes):
            yield line, node.value if isinstance(node.value, str) else node.value.decode("utf-8", "replace")


def strangers(text: str, room: str) -> list[tuple[int, str]]:
    """Return each line of ``text`` that names a vendor which ``room`` must not know."""
    if room in HOME:
        return []
    unknown = VENDORS - SERVED_DIALECTS if room in SERVED_IN else VENDORS
    return sorted({(line, word) for line, name in named(text) for word in words(name) & unknown})


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("x = GroqStream()", "groq"),
        ("OPENAI_API_KEY = 1", "openai"),
        ("def f(anthropic_version): ...", "anthropic"),
        ("x = 'https://api.mistral.ai/v1'", "mistral"),
        ("x = b'x-ollama'", "ollama"),
        ("from llm_server.providers.cohere import x", "cohere"),
        ("class OpenAIChat: ...", "openai"),
        ("x = f'{y} xAI'", "xai"),
        ("x.deepseek", "deepseek"),
    ],
)
def test_a_vendor_in_code_is_found(code: str, found: str) -> None:
    assert [word for _, word in strangers(code, "pipeline")] == [found]


def test_prose_may_cite_a_vendor() -> None:
    text = '"""As Anthropic documents it."""\n# groq does so too\nX = 1\n"""OpenAI\'s limit."""\n'
    text += "Field(description='Cohere', examples=['groq/x'])\nY = {'examples': ['xai/y']}\n"
    assert strangers(text, "pipeline") == []


def test_only_the_dialects_served_are_known_where_they_are_served() -> None:
    text = "x = ('openai', 'anthropic', 'groq')"
    assert strangers(text, "wire") == strangers(text, "api") == [(1, "groq")]
    assert len(strangers(text, "routing")) == 3
    assert strangers(text, "providers") == []


def test_no_room_but_the_providers_and_the_catalog_names_a_vendor() -> None:
    package = ROOT / "src" / "llm_server"
    found = []
    for path in python("src"):
        place = path.relative_to(package)
        room = place.parts[0].removesuffix(".py")
        found += [f"{place}:{line} {word}" for line, word in strangers(path.read_text(), room)]
        found += [f"{place} is named {word}" for _, word in strangers(repr(place.as_posix()), room)]
    assert found == []
