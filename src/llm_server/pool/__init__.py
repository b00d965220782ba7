"""Connections to upstreams: limits, reuse, timeouts, who goes first, and who is left alone."""

from llm_server.pool.config import PoolConfig
from llm_server.pool.pool import UpstreamPool, open_pool, shared, split
from llm_server.pool.quota import Allowance, QuotaRules

__all__ = ["Allowance", "PoolConfig", "QuotaRules", "UpstreamPool", "open_pool", "shared", "split"]
