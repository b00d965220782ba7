"""Who is examined: every row of the providers room, joined with what its vendor sends.

A row enrols itself by existing, and a corpus folder by its name; nothing here lists providers. What a row
cannot say about itself stands in two small tables, each entry with its reason.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from llm_server.contract import (
    Answer,
    Attempt,
    Call,
    ChatCall,
    Context,
    CountCall,
    EmbedCall,
    Facts,
    Message,
    Provider,
    Role,
    Secret,
    Text,
    TextCall,
)
from llm_server.pool import PoolConfig
from llm_server.providers import ROWS, ProviderConfig, Row, build
from llm_server.providers.building import DIALECTS, quirks
from llm_server.providers.http import HttpProvider
from tests.upstreams.cases import Case, cases
from tests.upstreams.upstream import Upstream

KEY = "canary-k3y-5up3rs3cr3t-0123456789"
"""The credential of every provider here; it may stand in an outbound header and nowhere else."""

BORROWED: Mapping[str, str] = {"openai-compatible": "openai"}
"""Rows without a vendor of their own: any compatible URL is held to the bytes of what it resembles."""

PREFIXES: Mapping[str, str] = {"openai-compatible": "/v1", "vllm": "/v1"}
"""Base paths that users of a row without a usual place configure, as its documentation tells them."""

DATED_VERSION = "2024-10-21"
"""The version configured for rows that have a dated API besides their newest one."""

POOL = PoolConfig(connect_timeout_s=30, first_byte_timeout_s=30, idle_timeout_s=30, total_timeout_s=60)
"""Generous: nothing but the timeout tests may depend on a clock."""


@dataclass(frozen=True)
class Enrolled:
    """A row under examination; with ``version``, the dated form of its API."""

    row: Row
    version: str | None = None

    @property
    def id(self) -> str:
        """A test's parameter id and a golden folder's name."""
        return f"{self.row.name}-dated" if self.version else self.row.name

    @property
    def vendor(self) -> str:
        """The corpus folder that is this row's truth."""
        return BORROWED.get(self.row.name, self.row.name)

    @property
    def prefix(self) -> str:
        """The path of the base URL."""
        return PREFIXES.get(self.row.name, urlsplit(self.row.base_url).path)

    @property
    def dialect(self) -> Any:
        """The dialect as this row speaks it."""
        return DIALECTS[self.row.dialect](quirks(self.row, self.version))

    def cases(self, *, operation: str | None = None, form: Any = None) -> Iterator[Case]:
        """Yield the vendor's cases, without those of a native API that no row calls."""
        found = cases(self.vendor, operation=operation, form=form)
        return (case for case in found if not case.name.startswith("native_"))

    def config(self, url: str, **more: Any) -> ProviderConfig:
        """Return the configuration that points this row at ``url``, with the canary key."""
        known = {
            "base_url": url + self.prefix,
            "api_key": Secret(KEY),
            "api_version": self.version,
            "pool": POOL,
        }
        return ProviderConfig(**known | more)


ENROLLED = tuple(
    one
    for row in ROWS.values()
    for one in (Enrolled(row), *([Enrolled(row, DATED_VERSION)] if row.dated else []))
)


def rows(*dialects: str) -> pytest.MarkDecorator:
    """Parametrise ``who`` over the enrolled rows (of these dialects, if any is named)."""
    found = [who for who in ENROLLED if not dialects or who.row.dialect in dialects]
    return pytest.mark.parametrize("who", found, ids=lambda who: who.id)


def each(
    *operations: str, form: Any = None, where: Callable[[Case], bool] = lambda _: True
) -> pytest.MarkDecorator:
    """Parametrise ``who, case`` over every row's cases of these operations."""
    found = [
        pytest.param(who, case, id=f"{who.id}/{case.name}.{case.form}")
        for who in ENROLLED
        for case in who.cases(form=form)
        if case.operation in operations and where(case)
    ]
    assert found, f"no case for {operations}"
    return pytest.mark.parametrize(("who", "case"), found)


CHATS = ("chat", "messages", "generate")
"""The operations that answer a conversation, as the vendors' paths call them."""


@asynccontextmanager
async def provider(who: Enrolled, up: Upstream, **more: Any) -> AsyncIterator[HttpProvider]:
    """Build the row's real provider, real pool included, pointed at a scripted upstream."""
    built = build({who.row.name: who.config(up.url, **more)}, row_facts)[who.row.name]
    assert isinstance(built, HttpProvider)
    await built.start()
    try:
        yield built
    finally:
        await built.close()


def row_facts(row: str, model: str, facts: Facts) -> Facts:
    """Answer as a catalog that knows no model: what counts is what the row says."""
    return facts


def model_of(case: Case) -> str:
    """Return a model's name that the case could be about: the one in its path, where it has one there."""
    for before in ("/deployments/", "/models/"):
        if before in case.path:
            return case.path.partition(before)[2].partition("/")[0].partition(":")[0]
    return "some-model"


def call_for(case: Case, dialect: str = "") -> Call:
    """Return a call that the case answers, of a caller who speaks ``dialect`` (nobody's, if empty)."""
    about: dict[str, Any] = {"model": model_of(case), "dialect": dialect, "stream": case.form == "stream"}
    match case.operation:
        case "completions":
            prompts = ("Say this",) * (1 + len(case.answer.get("more", ())))
            return TextCall(**about, prompts=prompts)
        case "embeddings":
            return EmbedCall(**about, inputs=("a", "b"), base64="base64" in case.name)
        case "count_tokens":
            return CountCall(**about, messages=HELLO)
        case _:
            return ChatCall(**about, messages=HELLO)


HELLO = (Message(Role.USER, (Text("Hello"),)),)


def context() -> Context:
    """Return the context of a request under way, as the pipeline hands it to a provider."""
    return Context(request_id="r-1", attempts=[Attempt(provider="", model="")])


async def ask(provider: Provider, call: Call, ctx: Context | None = None) -> list[Answer]:
    """Return all answers to a call."""
    async with aclosing(provider(call, ctx or context())) as answers:
        return [answer async for answer in answers]
