"""What models exist: capabilities, context, prices, versions, aliases."""

from llm_server.catalog.catalog import Catalog
from llm_server.catalog.listing import Listing

__all__ = ["Catalog", "Listing"]
