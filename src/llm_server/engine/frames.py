"""What the server and a worker process tell each other: MessagePack values, each after its length."""

import struct
from typing import BinaryIO

import msgspec
from msgspec import Struct

from llm_server.contract import ErrorKind
from llm_server.engine.runtime import Ended, Generation, Resources

HEADER = struct.Struct("<I")
"""A frame's length in bytes, before it."""


class Load(Struct, frozen=True, tag="load"):
    """First of all: load this model."""

    resources: Resources


class Generate(Struct, frozen=True, tag="generate"):
    """Generate; answered with texts and an end, or a failure."""

    id: int
    generation: Generation


class Cancel(Struct, frozen=True, tag="cancel"):
    """Stop generation ``id``; not answered."""

    id: int


class Count(Struct, frozen=True, tag="count"):
    """Count the tokens of ``text``."""

    id: int
    text: str


class Loaded(Struct, frozen=True, tag="loaded"):
    """The model is there."""


class Wrote(Struct, frozen=True, tag="wrote"):
    """Generation ``id`` has more text."""

    id: int
    text: str


class Done(Struct, frozen=True, tag="done"):
    """Generation ``id`` is over."""

    id: int
    ended: Ended


class Counted(Struct, frozen=True, tag="counted"):
    """The answer to a count."""

    id: int
    tokens: int


class Failed(Struct, frozen=True, tag="failed"):
    """Request ``id`` failed, or loading did (``id`` 0). ``prompt_tokens`` comes with ``CONTEXT_OVERFLOW``."""

    id: int
    kind: ErrorKind
    message: str
    prompt_tokens: int = 0


Order = Load | Generate | Cancel | Count
Report = Loaded | Wrote | Done | Counted | Failed

_order: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_report: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)
_encoder = msgspec.msgpack.Encoder()


def encode(message: Order | Report) -> bytes:
    """Return the frame of ``message``."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body)) + body


def decode_report(body: bytes) -> Report:
    """Return what a worker said; raises ``msgspec.MsgspecError`` for garbage."""
    return _report.decode(body)


def read_order(stream: BinaryIO) -> Order | None:
    """Return the next order, waiting for it; ``None`` at the end of the stream."""
    head = _exactly(stream, HEADER.size)
    return _order.decode(_exactly(stream, HEADER.unpack(head)[0])) if head else None


def _exactly(stream: BinaryIO, size: int) -> bytes:
    """Read ``size`` bytes from an unbuffered stream, or none if it ends before."""
    data = b""
    while len(data) < size:
        if not (more := stream.read(size - len(data))):
            return b""
        data += more
    return data
