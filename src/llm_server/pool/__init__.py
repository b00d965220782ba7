"""Connections to upstreams: limits, reuse, timeouts."""

from llm_server.pool.config import PoolConfig
from llm_server.pool.limited import AiohttpPool
from llm_server.pool.transports import transport

__all__ = ["AiohttpPool", "PoolConfig", "transport"]
