"""What the control-plane routes look at."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from msgspec import Struct

from llm_server.api.batches import Batches
from llm_server.api.files import Files
from llm_server.api.models import Listing
from llm_server.api.pools import Pools
from llm_server.api.registry import Schemas
from llm_server.api.structured import Structure
from llm_server.contract import Provider

Metrics = Callable[[str], tuple[bytes, str]]
"""Takes the ``Accept`` header, returns the exposition and its content type."""


class Offline(NamedTuple):
    """Files, and the batches that are run from them."""

    files: Files
    batches: Batches


class Backstage(Struct, frozen=True):
    """The parts of the server, for the routes that tell of them.

    Without ``metrics`` there is no route for them, without ``offline`` none for files and batches.
    """

    providers: Mapping[str, Provider]
    listing: Listing
    metrics: Metrics | None
    version: str
    schemas: Schemas
    structure: Structure
    pools: Pools = tuple
    offline: Offline | None = None
