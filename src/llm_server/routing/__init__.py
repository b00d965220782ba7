"""Given candidates and their health, decide the order and say what was dropped and why. Pure."""

from llm_server.routing.config import RetryConfig, RouteConfig, RoutingConfig
from llm_server.routing.fixed import FixedOrder

__all__ = ["FixedOrder", "RetryConfig", "RouteConfig", "RoutingConfig"]
