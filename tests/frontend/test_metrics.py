"""GET /metrics of frontends in front of a stand-in worker: what is counted, and who may read it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from frontend.metrics.catalogue import CATALOGUE, EVENT_GAP, FIRST_TOKEN, QUEUE_TIME
from frontend.metrics.pacing import Pace
from frontend.metrics.sheet import SHEET_BYTES, Sheet, read_sheet
from frontend.projection import Projection
from protocol.records import Closed, ErrorDetail, Opened, OwnerGranted, Progress, TurnStarted
from protocol.reports import Status
from tests.frontend.served import DONE, FINISHED, Frontend, read_until, served, text
from tests.frontend.standin import MODEL, StandIn
from tests.frontend.tenants import make_key
from tests.pace import DEADLINE_S

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(frontend: Frontend, **request: Any) -> Samples:
    """All samples that this frontend shows, by name and labels."""
    async with frontend.client.get(f"{frontend.url}/metrics", **request) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        return samples(await answer.text())


def samples(exposition: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float:
    """The value of one series; 0 where there is none."""
    return found.get((f"holdfast_{name}", tuple(sorted(labels.items()))), 0.0)


async def until(frontend: Frontend, name: str, value: float, **labels: str) -> Samples:
    """Wait until this series has the value."""
    async with asyncio.timeout(DEADLINE_S):
        while of(found := await scrape(frontend), name, **labels) != value:
            await asyncio.sleep(0.01)
    return found


async def heartbeats(frontend: Frontend, count: int) -> None:
    """Wait for so many more, of all frontends together."""
    name = "event_loop_lag_seconds_count"
    last = of(await scrape(frontend), name) + count
    async with asyncio.timeout(DEADLINE_S):
        while of(await scrape(frontend), name) < last:
            await asyncio.sleep(0.01)


async def stream(frontend: Frontend, worker: StandIn, words: int) -> str:
    """A streamed answer, read to its end."""
    known = len(worker.logs)
    async with frontend.create(stream=True) as answer:
        response_id = await worker.next_response(known)
        for number in range(words):
            worker.append(response_id, text(f"{number} "))
            await read_until(answer, b'"delta":"%d ' % number)
        worker.append(response_id, FINISHED)
        await read_until(answer, DONE)
    return response_id


# ---- what is counted -------------------------------------------------------------------------------------------------


async def test_a_stream_is_counted_once_from_its_request_to_its_tokens(worker: StandIn, frontend: Frontend) -> None:
    response_id = await stream(frontend, worker, words=5)
    async with frontend.read(response_id, params={"stream": "true", "starting_after": "3"}) as again:
        await read_until(again, DONE)
    async with frontend.read("resp_unknown") as answer:
        assert answer.status == 404
    async with frontend.client.get(f"{frontend.url}/health/nothing") as answer:
        assert answer.status == 404
    found = await until(frontend, "streams_ended_total", 2, status="completed")
    assert of(found, "requests_total", method="POST", endpoint="/v1/responses", code="200") == 1
    assert of(found, "requests_total", method="GET", endpoint="/v1/responses/{response_id}", code="404") == 1
    assert of(found, "error_answers_total", code="response_not_found") == 1
    assert of(found, "error_answers_total", code="unknown_url") == 0
    assert of(found, "resumes_total") == 1
    assert of(found, "streams") == 0
    model = {"model": "holdfast-demo"}
    assert of(found, "time_to_first_token_seconds_count", **model) == 1
    assert of(found, "inter_event_gap_seconds_count", **model) == 5  # four between five words, and the end
    assert of(found, "queue_time_seconds_count", **model) == 1
    assert of(found, "turns_total", reason="stop", **model) == 1
    usage = FINISHED.usage
    assert of(found, "input_tokens_total", **model) == usage.input_tokens
    assert of(found, "output_tokens_total", **model) == usage.output_tokens
    assert of(found, "store_transaction_seconds_count", mode="write") >= 1


async def test_time_in_the_queue_is_as_long_as_the_worker_says_that_it_waits(
    worker: StandIn, frontend: Frontend
) -> None:
    async with frontend.create(stream=True) as answer:
        response_id = await worker.next_response()
        worker.positions[response_id] = 2
        await heartbeats(frontend, 10)
        worker.append(response_id, text("at last"), FINISHED)
        await read_until(answer, DONE)
    waited_s = of(await scrape(frontend), "queue_time_seconds_sum", model="holdfast-demo")
    assert waited_s > 0.2  # of the second that ten heartbeats take


async def test_what_clients_make_up_makes_no_series(worker: StandIn, frontend: Frontend) -> None:
    worker.rejects = ErrorDetail("invalid_request_error", "model_not_found", "no such model", "model")
    for model in ("made-up", "holdfast-demo"):
        async with frontend.create(model=model) as answer:
            assert answer.status == 404
    async with frontend.client.request("PROPFIND", f"{frontend.url}/made-up") as answer:
        assert answer.status == 404
    found = await scrape(frontend)
    assert of(found, "requests_total", method="", endpoint="none", code="404") == 1
    assert not [labels for _, labels in found if {"made-up", "PROPFIND", "holdfast-demo"} & set(dict(labels).values())]


async def test_streams_show_while_they_are_open_and_as_cut_when_their_client_leaves(
    worker: StandIn, frontend: Frontend
) -> None:
    answer = await frontend.create(stream=True)
    await worker.next_response()
    await until(frontend, "streams", 1)
    answer.close()
    assert of(await until(frontend, "streams", 0), "streams_ended_total", status="cut") == 1


async def test_every_frontend_of_a_run_directory_tells_of_all(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path) as first, served(tmp_path) as second:
        await stream(first, worker, words=1)
        await stream(second, worker, words=1)
        for each in (first, second):
            found = await until(each, "streams_ended_total", 2, status="completed")
            assert of(found, "processes") == 2
            assert of(found, "worker_up", worker="w0") == 1
    async with served(tmp_path) as third:
        found = await scrape(third)
        assert of(found, "requests_total", method="POST", endpoint="/v1/responses", code="200") == 2
        assert (of(found, "processes"), of(found, "process_starts_total")) == (1, 3)


async def test_adoptions_moves_and_lost_workers_are_counted(worker: StandIn, tmp_path: Path) -> None:
    patient = {"worker_lost_after_s": DEADLINE_S, "worker_wait_s": DEADLINE_S}
    async with served(tmp_path, **patient) as doomed, served(tmp_path, **patient) as frontend:
        answer = await doomed.create(stream=True)
        response_id = await worker.next_response()
        peer = frontend.links.frontend_id.encode()
        await worker.until(lambda: peer in worker.peers)
        worker.offer(response_id, peer)
        await until(frontend, "adoptions_total", 1)
        other = StandIn(tmp_path, "w1")
        await other.until(lambda: len(other.peers) == 2)
        other.take_over(worker)
        worker.close()
        await until(frontend, "moves_total", 2)  # the owner's reader, and the client's
        await heartbeats(frontend, 6)  # of two frontends in one event loop: each has seen it
        other.silent = True
        other.say_goodbye()
        await until(frontend, "worker_up", 0, worker="w1")
        await until(frontend, "workers_lost_total", 2)  # each of both has lost it
        other.close()
        answer.close()


async def test_a_worker_is_shown_as_it_reports_itself(worker: StandIn, frontend: Frontend) -> None:
    await until(frontend, "worker_up", 1, worker="w0")
    status = Status(
        "draining",
        *(0, 7, 3, 2, 0.25),
        log_bytes=1000,
        models=(MODEL,),
        journal_bytes=2000,
        prefix_queries=300,
        prefix_hits=200,
    )
    worker.silent = True
    worker.send(worker.peers[0], status)
    found = await until(frontend, "worker_phase", 1, worker="w0", phase="draining")
    prefix = "holdfast_worker_"
    assert {name.removeprefix(prefix): value for (name, _), value in found.items() if name.startswith(prefix)} == {
        "up": 1,
        "phase": 1,
        "running": 3,
        "waiting": 2,
        "kv_cache_usage_ratio": 0.25,
        "engine_steps_total": 7,
        "prefix_cache_queried_tokens_total": 300,
        "prefix_cache_hit_tokens_total": 200,
        "log_bytes": 1000,
        "journal_bytes": 2000,
    }


async def test_what_is_shown_is_what_the_catalogue_has(frontend: Frontend) -> None:
    async with frontend.client.get(f"{frontend.url}/metrics") as answer:
        families = list(text_string_to_metric_families(await answer.text()))
    shown = {family.name + "_total" * (family.type == "counter"): family for family in families}
    assert shown.keys() == CATALOGUE.keys()
    for name, metric in CATALOGUE.items():
        assert (shown[name].type, shown[name].documentation) == (metric.kind, metric.help)
        assert {label for sample in shown[name].samples for label in sample.labels} <= {*metric.labels, "le"}


async def test_it_speaks_openmetrics_where_asked(frontend: Frontend) -> None:
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with frontend.client.get(f"{frontend.url}/metrics", headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert (await answer.text()).endswith("# EOF\n")


# ---- who may read it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics_key", "shown", "status"),
    [
        ("", None, 401),
        ("", "alice", 403),
        ("prometheus", None, 401),
        ("prometheus", "alice", 403),
        ("prometheus", "prometheus", 200),
        ("*", None, 200),
        ("*", "alice", 200),
    ],
)
async def test_where_keys_are_asked_for_only_the_one_that_is_named_may_read_it(
    tmp_path: Path, metrics_key: str, shown: str | None, status: int
) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    headers = {name: make_key(tmp_path, name) for name in ("alice", "prometheus")}
    async with served(tmp_path, metrics_key=metrics_key) as frontend:
        answer = await frontend.client.get(f"{frontend.url}/metrics", headers=headers.get(shown or ""))
        assert answer.status == status


# ---- waits -----------------------------------------------------------------------------------------------------------


def test_waits_are_those_of_the_output_and_of_nothing_else() -> None:
    memory = memoryview(bytearray(SHEET_BYTES))
    sheet, projection = Sheet(memory), Projection()
    pace = Pace(sheet, "demo", since=10.0)

    def hear(now: float, *records: Any) -> None:
        for record in records:
            projection.apply(record)
        pace.heard(projection, now)

    hear(10.2, Opened("r", 1, b'{"model":"demo","input":"hi"}'), OwnerGranted("f", 1), TurnStarted(0, 7))
    pace.queued(11.0)
    pace.queued(11.5)
    hear(13.0, text("a"))
    hear(13.03, text("b"), text("c"))
    hear(15.53, Progress(0.0))
    hear(15.6, text("d"), FINISHED)
    hear(30.0, Closed("completed", 1))
    sums = read_sheet(bytes(memory), living=True)

    def observed(name: str) -> tuple[float, Any]:
        *counts, seconds = sums[name, ("demo",)]
        return sum(counts), pytest.approx(seconds)

    assert observed(FIRST_TOKEN.name) == (1, 3.0)
    assert observed(QUEUE_TIME.name) == (1, 1.5)
    assert observed(EVENT_GAP.name) == (3, 0.03 + 2.5 + 0.07)
