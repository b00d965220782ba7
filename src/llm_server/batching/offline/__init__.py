"""Batches of requests from a file, run when there is room: durable, and each line once in the output."""

from llm_server.batching.offline.asking import Asking
from llm_server.batching.offline.batches import Batches, Routes
from llm_server.batching.offline.config import BatchesConfig
from llm_server.batching.offline.files import Files
from llm_server.batching.offline.local import Local
from llm_server.batching.offline.remote import Remote
from llm_server.batching.offline.runner import Runner

__all__ = ["Asking", "Batches", "BatchesConfig", "Files", "Local", "Remote", "Routes", "Runner"]
