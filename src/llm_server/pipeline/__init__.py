"""The story of one request, as stages of one type over ports. No adapter is named here."""

from llm_server.pipeline.counted import Counted
from llm_server.pipeline.observed import Observed
from llm_server.pipeline.registered import Registered
from llm_server.pipeline.routed import Routed

__all__ = ["Counted", "Observed", "Registered", "Routed"]
