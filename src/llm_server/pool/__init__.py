"""Connections to upstreams: limits, reuse, timeouts."""

from llm_server.pool.aio import AiohttpPool
from llm_server.pool.config import PoolConfig

__all__ = ["AiohttpPool", "PoolConfig"]
