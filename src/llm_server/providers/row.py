"""What is known about a provider, as data."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from llm_server.contract import Facts
from llm_server.pool import QuotaRules
from llm_server.providers.quirks import Quirks
from llm_server.providers.quotas import UNTOLD


class Row(Struct, frozen=True, kw_only=True):
    """One known provider.

    ``key_env`` and ``url_env`` are the usual environment variables, the first that is set counts. A row is
    found in the environment when all that it ``needs`` is there. ``suffix`` is what people add to the base
    URL although the dialect's paths already have it. ``key_prefix`` stands before the key in ``key_header``.
    ``docs`` is where the facts of this row were read.
    """

    name: str
    title: str
    dialect: str = "openai"
    base_url: str = ""
    key_env: tuple[str, ...] = ()
    url_env: tuple[str, ...] = ()
    header_env: Mapping[str, str] = {}
    needs: tuple[str, ...] = ("key",)
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    default_port: int | None = None
    suffix: str = ""
    version_env: tuple[str, ...] = ()
    batches: str = ""
    """The shape of its own batch API, as ``APIS`` names it; empty for a provider that has none."""
    dated: Quirks | None = None
    """Quirks of the dated API, for a row that has one; ``{version}`` in them is the configured version."""
    quirks: Quirks = Quirks()
    facts: Facts = Facts()
    quotas: QuotaRules = UNTOLD
    """How it tells of its limits."""
    pool: Mapping[str, Any] = {}
    """Settings of the pool that its documentation asks for; what is configured goes over them."""
    docs: tuple[str, ...]
