"""Durable facts: repositories, migrations, the usage ledger."""

from llm_server.storage.config import StorageConfig
from llm_server.storage.storage import Storage

__all__ = ["Storage", "StorageConfig"]
