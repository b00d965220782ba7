"""What the control-plane routes look at."""

from collections.abc import Callable, Mapping

from msgspec import Struct

from llm_server.api.models import Listing
from llm_server.api.pools import Pools
from llm_server.api.registry import Schemas
from llm_server.api.structured import Structure
from llm_server.contract import Provider

Metrics = Callable[[str], tuple[bytes, str]]
"""Takes the ``Accept`` header, returns the exposition and its content type."""


class Backstage(Struct, frozen=True):
    """The parts of the server, for the routes that tell of them. Without ``metrics`` none are served."""

    providers: Mapping[str, Provider]
    listing: Listing
    metrics: Metrics | None
    version: str
    schemas: Schemas
    structure: Structure
    pools: Pools = tuple
