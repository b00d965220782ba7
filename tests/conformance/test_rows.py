"""Row lint: what every row must say about itself, and that each row and each corpus folder has the other."""

from urllib.parse import urlsplit

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from llm_server.contract import Facts, Sampling
from llm_server.providers import ROWS, Row, discover
from llm_server.providers.building import DIALECTS
from llm_server.providers.quirks import Quirks
from tests.conformance.enrolled import BORROWED, DATED_VERSION, ENROLLED, KEY, PREFIXES, Enrolled, rows
from tests.upstreams.cases import VENDORS, exists, refusals

each_row = pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.name)

CHAT_FIELDS = {*CompletionCreateParamsBase.__annotations__, "stream", "top_k", "random_seed"}
EMBED_FIELDS = {"model", "input", "dimensions", "encoding_format", "user", "output_dimension"}
SAMPLING = set(Sampling.__struct_fields__)


def test_every_row_has_a_corpus_and_every_corpus_a_row() -> None:
    assert {who.vendor for who in ENROLLED} == set(VENDORS)
    assert set(ROWS) - set(BORROWED) == set(VENDORS)
    assert set(BORROWED) <= set(ROWS)
    assert set(BORROWED.values()) <= set(VENDORS)
    assert set(PREFIXES) <= set(ROWS)
    assert {who.row.name for who in ENROLLED} == set(ROWS)


@rows()
def test_a_corpus_tells_enough_to_examine_a_row(who: Enrolled) -> None:
    for name in ("text", "tool"):
        assert exists(who.vendor, name, "whole"), name
        assert exists(who.vendor, name, "stream"), name
    assert exists(who.vendor, "models", "whole")
    if who.row.facts.embeddings and who.row.name != "openrouter":
        assert exists(who.vendor, "embeddings", "whole")
    if who.row.facts.count_tokens:
        assert exists(who.vendor, "count_tokens", "whole")
    assert refusals(who.vendor)


@each_row
def test_a_row_is_named_as_it_is_kept_and_says_where_its_facts_are_from(row: Row) -> None:
    assert ROWS[row.name] is row
    assert row.name == row.name.lower()
    assert row.name.replace("-", "").isalnum()
    assert row.title
    assert row.docs
    for page in row.docs:
        parts = urlsplit(page)
        assert (parts.scheme, bool(parts.hostname)) == ("https", True), page


def test_names_titles_and_keys_are_unique() -> None:
    assert len({row.title for row in ROWS.values()}) == len(ROWS)
    variables = [name for row in ROWS.values() for name in (*row.key_env, *row.url_env)]
    assert len(set(variables)) == len(variables)


@each_row
def test_a_base_url_is_https_unless_it_is_this_machine(row: Row) -> None:
    if not row.base_url:
        assert "url" in row.needs
        assert row.url_env
        return
    parts = urlsplit(row.base_url)
    assert parts.scheme == ("http" if parts.hostname == "127.0.0.1" else "https")
    assert not row.base_url.endswith("/")
    assert (parts.query, parts.fragment, parts.username) == ("", "", None)


@each_row
def test_variables_are_upper_case_and_found(row: Row) -> None:
    variables = (*row.key_env, *row.url_env, *row.header_env, *row.version_env)
    assert all(name == name.upper() and name.replace("_", "").isalnum() for name in variables)
    assert row.key_env
    env = {row.key_env[0]: KEY} | ({row.url_env[0]: "http://127.0.0.1:9/x"} if row.url_env else {})
    found = discover(env)
    assert list(found) == [row.name]
    assert KEY not in repr(found)
    assert discover({}) == {}


@each_row
def test_the_dialect_exists_and_quirks_are_for_the_dialect_that_has_them(row: Row) -> None:
    assert row.dialect in DIALECTS
    if row.dialect != "openai":
        assert row.quirks == Quirks()
        assert row.dated is None


@each_row
def test_quirks_and_facts_name_real_fields(row: Row) -> None:
    for quirks in filter(None, (row.quirks, row.dated)):
        assert {*quirks.chat_renames, *quirks.chat_renames.values()} <= CHAT_FIELDS
        assert {*quirks.embed_renames, *quirks.embed_renames.values()} <= EMBED_FIELDS
        assert quirks.refuses <= CHAT_FIELDS | EMBED_FIELDS
        if quirks.accepts is not None:
            assert set(quirks.chat_renames.values()) | set(quirks.embed_renames.values()) <= quirks.accepts
            assert not (set(quirks.chat_renames) | set(quirks.embed_renames)) & quirks.accepts
            assert {"model", "messages", "stream", "tools", "input"} <= quirks.accepts
        assert not set(quirks.chat_renames) & set(quirks.chat_renames.values())
    assert row.facts.refuses <= SAMPLING
    assert isinstance(row.facts, Facts)


@each_row
def test_the_key_goes_into_a_header(row: Row) -> None:
    assert row.key_header == row.key_header.lower()
    assert (row.key_header == "authorization") == (row.key_prefix == "Bearer ")


@rows()
def test_a_dated_api_is_only_asked_when_configured(who: Enrolled) -> None:
    request = who.dialect.models_request()
    assert (DATED_VERSION in request.path) == (who.version is not None)
    assert "{" not in request.path
