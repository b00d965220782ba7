"""Given candidates and their health, decide the order and say what was dropped and why. Pure."""

from llm_server.routing.config import RoutingConfig
from llm_server.routing.fixed import FixedOrder

__all__ = ["FixedOrder", "RoutingConfig"]
