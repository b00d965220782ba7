"""The whole server in front of scripted upstreams, as an operator would run it: settings in, a URL out."""

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from llm_server.app import create
from llm_server.contract import Again, ErrorKind
from llm_server.providers.rows import ROWS
from llm_server.settings import Settings
from tests.serving import serving
from tests.upstreams.cases import Form, exists, load
from tests.upstreams.server import ROUTES, scripted, upstream, wants_stream
from tests.upstreams.upstream import Answer, Request, Upstream

CANARY = "sk-canary-8a1f3c5e7d9b2f4a6c8e"
"""The key of every provider: it may be seen by upstreams and by nobody else."""

RESULT = re.compile(rb'"tool_result"|"functionResponse"|"role": ?"tool"')
"""A tool's result, in any dialect."""

ONCE = {"where": {kind.value: "elsewhere" for kind in ErrorKind if kind.again is Again.ANYWHERE}}
"""No target is asked again that has failed once."""
AT_ONCE: dict[str, Any] = {"log_flush_s": 0.01}
QUIET: dict[str, Any] = {"engine": {"enabled": False}, "discover": False, "telemetry": AT_ONCE}


UNDAUNTED: dict[str, Any] = {"breaker": {"enabled": False}, "obey_quotas": False}
"""A pool that asks again and again, whatever the upstream has answered."""


@dataclass(frozen=True)
class Front:
    """A served application and a plain HTTP client for what no SDK can say or see."""

    url: str
    http: aiohttp.ClientSession

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum over all samples of a metric that have these labels."""
        async with self.http.get("/metrics") as response:
            lines = (await response.text()).splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = (line for line in lines if re.match(rf"{name}(\{{|\s)", line))
        return sum(float(line.rpartition(" ")[2]) for line in samples if all(each in line for each in wanted))

    async def until_metric(self, at_least: float, name: str, **labels: str) -> None:
        """Ask for the metrics until the sum is at least ``at_least``."""
        while await self.metric(name, **labels) < at_least:
            pass

    async def until_idle(self) -> None:
        """Ask for the metrics until nothing is in flight: no request here, no connection upstream busy."""
        names = ("llm_server_requests_in_flight", "llm_server_pool_busy_connections")
        while any([await self.metric(name) for name in names]):
            pass


def provider(up: Upstream, vendor: str, **more: Any) -> dict[str, Any]:
    """Return the configuration of ``vendor``'s row, moved to a scripted upstream."""
    row = ROWS[vendor]
    path = urlsplit(row.base_url).path if row.base_url else "" if vendor == "azure" else "/v1"
    return {"row": row.name, "base_url": up.url + path, "api_key": CANARY, **more}


@asynccontextmanager
async def fronting(providers: Mapping[str, Any], **sections: Any) -> AsyncGenerator[Front, None]:
    """Serve an application with these providers, and further sections of the settings.

    Its database is in a folder of its own, unless the sections name another one.
    """
    with TemporaryDirectory() as folder:
        kept = {"storage": {"url": f"sqlite:///{folder}/llm-server.db"}}
        settings = Settings.model_validate({**QUIET, **kept, "providers": dict(providers), **sections})
        async with serving(create(settings)) as url, aiohttp.ClientSession(url) as http:
            yield Front(url, http)


def asked_case(vendor: str, request: Request) -> Answer:
    """Answer with the corpus case that the request names as its model: one upstream for all cases.

    When a tool's result has come back, the answer is the plain text.
    """
    if (path := re.search(r"/models/([^/:]+):", request.path)) is not None:
        name = path[1]
    else:
        name = request.json()["model"] if request.body else "models"
    if any(re.search(pattern, request.path) for pattern, op in ROUTES if op == "count_tokens"):
        name = "count_tokens"
    elif RESULT.search(request.body):
        name = "text"
    form: Form = "stream" if wants_stream(request) else "whole"
    if request.body and request.json().get("encoding_format") == "base64":
        name = f"{name}_base64" if exists(vendor, f"{name}_base64", "whole") else name
    return load(vendor, name, form)


@asynccontextmanager
async def before(
    vendor_name: str, *answers: Answer, **sections: Any
) -> AsyncGenerator[tuple[Front, Upstream], None]:
    """Serve with one vendor, which gives these answers in turn; without any, the case that is asked for."""
    scripts = scripted(*answers) if answers else upstream(partial(asked_case, vendor_name))
    async with scripts as up, fronting({vendor_name: provider(up, vendor_name)}, **sections) as front:
        yield front, up
