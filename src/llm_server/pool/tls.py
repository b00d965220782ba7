"""TLS towards upstreams: whom we trust, who we are, and sessions that are taken up again."""

import ssl
from functools import lru_cache
from pathlib import Path

from llm_server.pool.config import PoolConfig

REMEMBERED_SESSIONS = 256
"""Hosts whose last session is kept; a host more forgets the oldest."""


class ResumingContext(ssl.SSLContext):
    """A client's context that offers each host the last session it gave (RFC 8446 2.2, RFC 5077).

    A resumed handshake needs no certificates: less of the processor for both. Neither asyncio nor uvloop can
    be told a session, but both call :meth:`wrap_bio`. Sessions are kept by host, since the name is not
    checked again when one is resumed.
    """

    _sessions: dict[str, ssl.SSLSession]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Return a connection's TLS state, with the host's last session if there is one."""
        if isinstance(server_hostname, str):
            session = session or self._sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, host: str, connection: ssl.SSLObject) -> bool:
        """Keep the session of ``connection`` if it has one; with TLS 1.3 the first thing read brings it."""
        session = connection.session
        if session is None or not (session.has_ticket or session.id):
            return False
        self._sessions.pop(host, None)
        self._sessions[host] = session
        if len(self._sessions) > REMEMBERED_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return True


def context(config: PoolConfig) -> ResumingContext:
    """Return the context for ``config``: the same one for the same files.

    It reads certificates, which takes tens of milliseconds the first time.

    Raises:
        OSError: a file is missing or holds no certificate (``ssl.SSLError``).
    """
    return _context(config.ca_file, config.client_cert_file, config.client_key_file)


@lru_cache(maxsize=16)
def _context(ca: Path | None, cert: Path | None, key: Path | None) -> ResumingContext:
    usual = ssl.create_default_context(cafile=ca)
    made = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    made._sessions = {}
    made.options = usual.options
    made.verify_flags = usual.verify_flags
    if ca is not None:
        made.load_verify_locations(ca)
    else:
        made.load_default_certs()
    if cert is not None:
        made.load_cert_chain(cert, key, password=_no_password)
    return made


def _no_password() -> str:
    """Answer for an encrypted key: nobody is at the terminal that OpenSSL would ask."""
    return ""
