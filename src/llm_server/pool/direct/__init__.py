"""Our own HTTP/1.1 to one origin: connections that are kept, and what may go over each."""

from llm_server.pool.direct.transport import DirectTransport

__all__ = ["DirectTransport"]
