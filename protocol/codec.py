"""Bytes to messages and back: one encoder, one typed decoder per direction, and the protocol's version.

A frame that is not a message of the union raises `BadFrame`; the reader logs it, drops it and goes on.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from protocol.commands import Addressed, Command
from protocol.records import Record
from protocol.reports import Report

VERSION: Final = 1
VERSIONS_SPOKEN: Final = (1,)
"""This version and, once there is one, the one before: peers are upgraded one at a time."""


class BadFrame(ValueError):
    """A frame that holds no message of this protocol: garbage, an unknown tag, or a wrong type."""


_Frame = TypeVar("_Frame")
_Message = TypeVar("_Message")

_encoder = msgspec.msgpack.Encoder()
_commands = msgspec.msgpack.Decoder(Addressed)
_reports: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)
_records: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode_command(incarnation: str, command: Command) -> bytes:
    """Encode a command for the worker's given incarnation (`""` for the first `Hello`)."""
    return _encoder.encode(Addressed(incarnation, command))


def decode_command(frame: bytes) -> Addressed:
    """Decode a frontend's frame. Raises `BadFrame`."""
    return _decoded(_commands.decode, frame)


encode_report: Callable[[Report], bytes] = _encoder.encode


def decode_report(frame: bytes) -> Report:
    """Decode a worker's frame. Raises `BadFrame`."""
    return _decoded(_reports.decode, frame)


encode_record: Callable[[Record], bytes] = _encoder.encode


decode_record: Callable[[msgspec.Raw | bytes], Record] = _records.decode
"""Decode one record of a `Batch`, as bare as can be, for it is done for every token. Raises what msgspec does where it
holds none: `msgspec.MsgspecError`, `UnicodeDecodeError` or `RecursionError`."""


def _decoded(decode: Callable[[_Frame], _Message], frame: _Frame) -> _Message:
    try:
        return decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(str(error)) from error
