"""Which transport a configuration means."""

from collections.abc import Mapping

from llm_server.contract import Secret
from llm_server.pool.aio import AiohttpTransport
from llm_server.pool.config import PoolConfig
from llm_server.pool.direct import DirectTransport
from llm_server.pool.transport import Transport

TRANSPORTS: dict[str, type[AiohttpTransport | DirectTransport]] = {
    "direct": DirectTransport,
    "aiohttp": AiohttpTransport,
}


def transport(base_url: str, config: PoolConfig, headers: Mapping[str, Secret]) -> Transport:
    """Return a transport to the origin of ``base_url`` that adds ``headers`` to every request.

    Raises:
        ValueError: ``base_url`` is no URL of HTTP.
        ServerError: ``INVALID_REQUEST``: a header cannot be sent.
    """
    return TRANSPORTS[config.transport](base_url, config, headers)
