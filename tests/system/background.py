"""Responses in the background: their clients, their observers, and what the store's file has of them in the end."""

import asyncio
import json
import random
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.chaos.clients import Crowd, Reader
from benchmarks.chaos.recording import Recording, ending, first_difference
from benchmarks.chaos.tally import Tally
from benchmarks.deployment import Process
from frontend.store.replay import unpack
from protocol.codec import decode_record
from protocol.records import Closed, OwnerGranted
from tests.system import sse

RETRY_S = 0.3
REPLAYS_AT_ONCE = 8


def crowd(http: aiohttp.ClientSession, urls: Sequence[str], seed: int) -> Crowd:
    """Observers of these frontends, who choose among them by this seed; the lengths are for other uses of a crowd."""
    return Crowd(http, urls, random.Random(seed), Tally(), interval_s=0.0, length_s=(0.0, 0.0))


def scripted(seconds: float, interval_s: float, **fields: Any) -> dict[str, Any]:
    """A create for a response that takes about so long, a token each interval."""
    script = json.dumps({"steps": max(1, round(seconds / interval_s)), "interval_s": interval_s})
    return {"model": "scripted", "input": "x", "background": True, "metadata": {"script": script}, **fields}


async def create(crowd: Crowd, body: dict[str, Any]) -> str:
    """Create it at any frontend, again and again under one key until it is answered; returns the response's id."""
    key = uuid.UUID(int=crowd.chance.getrandbits(128)).hex
    while True:
        url = crowd.chance.choice(crowd.urls)
        try:
            headers = {"Idempotency-Key": key}
            async with crowd.http.post(url + "/v1/responses", json=body, headers=headers) as answer:
                text = await answer.text()
                if answer.status == 200:
                    response_id: str = json.loads(text)["id"]
                    return response_id
                assert answer.status == 503, text
        except (aiohttp.ClientError, OSError):
            pass
        await asyncio.sleep(RETRY_S)


async def observe(crowd: Crowd, response_id: str) -> Recording:
    """All that one reader sees of it, over as many connections as it takes."""
    reader = Reader(crowd, response_id=response_id)
    await reader.read()
    return reader.recording


async def replay(crowd: Crowd, url: str, response_id: str) -> Recording:
    """The whole stream from this frontend, in one go."""
    recording = Recording()
    async with crowd.http.get(f"{url}/v1/responses/{response_id}", params={"stream": "true"}) as answer:
        assert answer.status == 200, await answer.text()
        async for data in answer.content.iter_any():
            recording.feed(data)
    return recording


async def check_replays(crowd: Crowd, observed: dict[str, Recording], endings: Sequence[str] = ("completed",)) -> None:
    """Every response has ended as it should, and every frontend replays what its observer saw, byte for byte."""
    turns = asyncio.Semaphore(REPLAYS_AT_ONCE)

    async def check(url: str, response_id: str, seen: Recording) -> None:
        async with turns:
            whole = await replay(crowd, url, response_id)
        assert ending(whole) in endings, (response_id, ending(whole))
        assert not first_difference(seen, whole), (response_id, url, first_difference(seen, whole))

    async with asyncio.TaskGroup() as group:
        for response_id, seen in observed.items():
            for url in crowd.urls:
                group.create_task(check(url, response_id, seen))


def rows(data_dir: Path) -> dict[str, tuple[Any, ...]]:
    """Status, epoch, end and content of every response in the file, by id."""
    with sqlite3.connect(f"file:{data_dir / 'holdfast.db'}?mode=ro", uri=True) as store:
        query = "SELECT response_id, status, epoch, closed, response FROM responses"
        return {response_id: tuple(row) for response_id, *row in store.execute(query)}


def check_stored_once(data_dir: Path, observed: dict[str, Recording]) -> int:
    """What the file has is one answer to each, the one that was observed; returns the most owners that one had."""
    most = 0
    with sqlite3.connect(f"file:{data_dir / 'holdfast.db'}?mode=ro", uri=True) as store:
        rows = dict(_grouped(store, "SELECT response_id, status, closed, response, opened FROM responses"))
        items = dict(_grouped(store, "SELECT response_id, side, json FROM items ORDER BY side, position"))
        logs = dict(_grouped(store, "SELECT response_id, last, records FROM replay_chunks ORDER BY position"))
    assert rows.keys() == observed.keys(), rows.keys() ^ observed.keys()
    for response_id, seen in observed.items():
        [(status, closed, response, opened)] = rows[response_id]
        final = sse.events([seen.blocks[-1]])[0]["response"]
        assert (status, opened) == ("completed", None)
        assert json.loads(response) == final
        assert [json.loads(item) for side, item in items[response_id] if side] == final["output"]
        assert len([item for side, item in items[response_id] if not side]) == 1
        assert [last for last, _ in logs[response_id]] == [0] * (len(logs[response_id]) - 1) + [1]
        records = [record for _, chunk in logs[response_id] for record in unpack(chunk)]
        decoded = [decode_record(record) for record in records]
        assert records[-1] == closed
        assert sum(isinstance(record, Closed) for record in decoded) == 1
        most = max(most, sum(isinstance(record, OwnerGranted) for record in decoded))
    return most


def _grouped(store: sqlite3.Connection, query: str) -> Iterable[tuple[str, list[tuple[Any, ...]]]]:
    """The rows by their first column."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for response_id, *rest in store.execute(query):
        found.setdefault(response_id, []).append(tuple(rest))
    return found.items()


def check_logs(processes: Iterable[Process]) -> None:
    """No process has logged an error of ours, or that the database was locked."""
    for process in processes:
        text = process.output.read_text()
        for sign in ("Traceback", "database is locked", "StoreUnavailable"):
            assert sign not in text, f"{process.name}: {text[max(0, text.index(sign) - 1000) :][:4000]}"
