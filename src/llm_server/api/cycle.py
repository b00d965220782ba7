"""A request that goes through ASGI, and its answer: uvicorn's, but for how an answer ends.

uvicorn closes a socket while the client may still send, which makes it lose the answer; cuts the answers to
old clients into chunks, which those do not know; and goes on after a refusal with a client that was never
asked for the body, whose next request would then be taken for it.
"""

import asyncio
import math
import urllib.parse
from asyncio import Transport
from collections.abc import Callable
from typing import Any

import httptools
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class Lingering:
    """A connection's transport, to which closing is left as far as somebody may still be sending."""

    __slots__ = ("_linger", "_transport", "is_closing", "write")

    def __init__(self, transport: Transport, linger: Callable[[], bool]) -> None:
        self._transport = transport
        self._linger = linger
        self.write, self.is_closing = transport.write, transport.is_closing

    def close(self) -> None:
        """Close when nobody sends any more."""
        if not self._linger():
            self._transport.close()


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    _until_closed = False
    """Whether the connection's end is the answer's (RFC 9112, 6.3, 8)."""

    async def receive(self) -> Any:
        """Return more of the body; a client that sends it already is not asked to."""
        if self.body or not self.more_body or self.scope["http_version"] == "1.0":
            self.waiting_for_100_continue = False  # RFC 9110, 10.1.1
        return await super().receive()

    async def send(self, message: Any) -> None:
        """Write more of the answer."""
        if message["type"] == "http.response.start":
            self._begin(message)
        elif self._until_closed and not message.get("more_body", False):
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)

    def _begin(self, message: Message) -> None:
        if self.waiting_for_100_continue and self.more_body:
            self.keep_alive = False  # whether the body will be sent is not known
        told = {name.lower() for name, _ in message.get("headers", ())}
        if self.scope["http_version"] == "1.0" and b"content-length" not in told:
            self._until_closed, self.chunked_encoding = True, False
            self.expected_content_length = math.inf  # type: ignore[assignment]  # any length will do


def cycle_of(connection: HttpToolsProtocol, linger: Callable[[], bool]) -> Cycle:
    """Return the cycle of the request whose headers have come.

    Args:
        connection: which has the headers.
        linger: keeps the connection open while its client sends, if it does; return whether.

    Raises:
        httptools.HttpParserInvalidURLError: its target is none.
    """
    parser, headers = connection.parser, connection.headers
    expects = any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
    return Cycle(
        scope=_scope(connection),
        transport=Lingering(connection.transport, linger),  # type: ignore[arg-type]  # all that is used
        flow=connection.flow,
        logger=connection.logger,
        access_logger=connection.access_logger,
        access_log=False,
        default_headers=connection.server_state.default_headers,
        message_event=asyncio.Event(),
        expect_100_continue=expects,
        keep_alive=parser.get_http_version() != "1.0" and parser.should_keep_alive(),
        on_response=connection.on_response_complete,
    )


def _scope(connection: HttpToolsProtocol) -> Any:
    parser = connection.parser
    target = httptools.parse_url(connection.url)
    path = target.path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": connection.asgi_version, "spec_version": "2.3"},
        "http_version": parser.get_http_version(),
        "server": connection.server,
        "client": connection.client,
        "scheme": connection.scheme,
        "root_path": connection.root_path,
        "headers": connection.headers,
        "state": connection.app_state.copy(),
        "method": parser.get_method().decode("ascii"),
        "path": connection.root_path + urllib.parse.unquote(path),
        "raw_path": connection.root_path.encode("ascii") + target.path,
        "query_string": target.query or b"",
    }
