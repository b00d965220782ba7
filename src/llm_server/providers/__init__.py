"""Outbound: rows (data), dialects (translate), one HTTP provider (send). Only here upstreams have names."""

from llm_server.providers.batches import batch_clients
from llm_server.providers.building import FactsLookup, build, upstreams
from llm_server.providers.config import FactsConfig, ProviderConfig
from llm_server.providers.discovery import discover
from llm_server.providers.http import HttpProvider
from llm_server.providers.row import Row
from llm_server.providers.rows import ROWS

__all__ = [
    "ROWS",
    "FactsConfig",
    "FactsLookup",
    "HttpProvider",
    "ProviderConfig",
    "Row",
    "batch_clients",
    "build",
    "discover",
    "upstreams",
]
