"""Group compatible unstructured work: embeddings, identical requests, offline batches."""

from llm_server.batching.config import BatchingConfig, EmbeddingsConfig, SingleFlightConfig
from llm_server.batching.grouping import Grouped
from llm_server.batching.sharing import Shared

__all__ = ["BatchingConfig", "EmbeddingsConfig", "Grouped", "Shared", "SingleFlightConfig"]
