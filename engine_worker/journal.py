"""A response's journal as bytes: what it may hold, how it is framed, and how much of it is whole. Pure: files are
`journal_files.py`'s, and what is made of a journal after a death is `recovery.py`'s.

Theory of operation
    A journal is its response's log as the log was appended, entry by entry, with what a resume needs in between:

        MAGIC, then entries:  length (4 bytes, little-endian)  checksum (4)  payload (`length` bytes)

    The payload is a log record in the very bytes that readers are given, or one of the entries below, which are never
    in a log. Entries are only ever appended, and each before anybody is told of it. So a process that dies leaves
    at most the end of its last write undone: what follows the first entry that is cut short, or whose checksum does not
    fit, was never told to anybody and is cut off.
"""

import struct
import zlib

import msgspec

from engine_worker.engines.interface import TurnPrepared
from protocol.records import Opened, Record

MAGIC = b"holdfast journal 1\n"
"""Begins every journal; the number is the format's version."""

_HEAD = struct.Struct("<II")


class TurnResumed(msgspec.Struct, frozen=True, array_like=True, tag="resumed", gc=False):
    """The turn is about to be given to another engine, since the one it ran in is dead."""

    turn: int


class EngineDied(msgspec.Struct, frozen=True, array_like=True, tag="engine_died", gc=False):
    """The engine that the turn ran in died, and the turn may be why."""

    turn: int


class TurnLeft(msgspec.Struct, frozen=True, array_like=True, tag="left", gc=False):
    """The turn stopped through no fault of its own: its worker ended on purpose, or its engine never came to it."""

    turn: int


Mark = TurnPrepared | TurnResumed | EngineDied | TurnLeft
"""What a journal holds besides the log."""
Entry = Record | Mark

_encoder = msgspec.msgpack.Encoder()
_entries: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)


class NotAJournal(ValueError):
    """The file does not begin as a journal of this version does."""


class Journal(msgspec.Struct, frozen=True):
    """What is whole of a journal: its entries, each with its encoded bytes, and their `size` in the file."""

    entries: tuple[tuple[Entry, bytes], ...]
    size: int
    volatile: bool = False

    @property
    def opened(self) -> Opened | None:
        """The first entry, which says whose journal it is; None when not even that is whole."""
        first = self.entries[0][0] if self.entries else None
        return first if isinstance(first, Opened) else None


def framed(payload: bytes) -> bytes:
    """An entry as it stands in the file; `payload` is an encoded `Entry`."""
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def encode_entry(entry: Mark) -> bytes:
    """The payload of an entry that is no log record."""
    return _encoder.encode(entry)


def read_journal(data: bytes, *, volatile: bool = False) -> Journal:
    """Read as many entries as are whole; the caller cuts off what lies beyond `size`. Raises `NotAJournal`.

    A file that was cut short within its first bytes is a journal without entries, of size 0.
    """
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):
            return Journal((), 0, volatile)
        raise NotAJournal
    entries: list[tuple[Entry, bytes]] = []
    at = len(MAGIC)
    while (payload := _payload_at(data, at)) is not None:
        try:
            entries.append((_entries.decode(payload), payload))
        except msgspec.MsgspecError:
            break
        at += _HEAD.size + len(payload)
    return Journal(tuple(entries), at, volatile)


def _payload_at(data: bytes, at: int) -> bytes | None:
    """The payload of the entry at this place, if it is whole."""
    if at + _HEAD.size > len(data):
        return None
    length, checksum = _HEAD.unpack_from(data, at)
    start = at + _HEAD.size
    payload = data[start : start + length]
    # A file that grew and was never written holds zeros, which are the checksum of nothing.
    return payload if length and len(payload) == length and zlib.crc32(payload) == checksum else None
