"""What a new version of a schema refuses that the old one took: breaking changes, named and placed."""

from llm_server.structured.compatibility.comparison import narrowings

__all__ = ["narrowings"]
