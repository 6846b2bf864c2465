"""Response logs at rest: the records, byte for byte, compressed in chunks of bounded size."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

import msgspec
import zstandard
from sqlalchemy import Connection, Row, select

from frontend.store.database import Database
from frontend.store.errors import ReplayGone
from frontend.store.tables import REPLAY_CHUNKS, RESPONSES

CHUNK_BYTES: Final = 128 * 1024
"""A chunk is full when its records are as long as that; a longer record is a chunk by itself."""
CHUNK_RECORDS_MAX: Final = 2000
"""Or when they are as many: what is folded in one go must not hold the event loop up."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[bytes])


class Replay:
    """The logs of all tenants' closed responses."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, tenant: str, response_id: str) -> AsyncIterator[list[bytes]]:
        """The log from offset 0 on, some records at a time, each as it was encoded; each time a short transaction.

        Raises `ReplayGone` when there is none, or it goes meanwhile; `StoreUnavailable`.
        """
        position, last = 0, False
        while not last:
            chunk = await self._database.read(_chunk, tenant, response_id, position)
            if chunk is None:
                raise ReplayGone
            compressed, last = chunk
            position += 1
            yield await asyncio.to_thread(unpack, compressed)


def pack(records: Iterable[bytes]) -> list[bytes]:
    """A log as compressed chunks. Takes its time: to be called in a thread."""
    compressor = zstandard.ZstdCompressor()
    return [compressor.compress(_encoder.encode(chunk)) for chunk in _chunks(records)]


def unpack(compressed: bytes) -> list[bytes]:
    """A chunk's records."""
    return _decoder.decode(zstandard.ZstdDecompressor().decompress(compressed))


def _chunks(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for record in records:
        if chunk and (size + len(record) > CHUNK_BYTES or len(chunk) == CHUNK_RECORDS_MAX):
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += len(record)
    if chunk:
        yield chunk


def _chunk(connection: Connection, tenant: str, response_id: str, position: int) -> Row[bytes, bool] | None:
    chunk, row = REPLAY_CHUNKS.c, RESPONSES.c
    wanted = (
        select(chunk.records, chunk.last)
        .join(RESPONSES, row.response_id == chunk.response_id)
        .where(chunk.response_id == response_id, chunk.position == position, row.tenant == tenant)
    )
    return connection.execute(wanted).one_or_none()
