"""Sums and workers as Prometheus reads them; prometheus_client does the writing. Pure."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from frontend.metrics import catalogue
from frontend.metrics.catalogue import Metric
from frontend.metrics.sheet import Labels, Sums
from protocol.reports import Status

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class WorkerView(msgspec.Struct, frozen=True):
    """A worker as this process sees it: `status` is its last word, None while it is lost or new."""

    name: str
    status: Status | None


def exposed(sums: Sums, workers: Sequence[WorkerView], accept: str) -> tuple[bytes, str]:
    """The answer in the format that `accept` (the request's header) asks for, and its content type."""
    encode, content_type = choose_encoder(accept)
    return encode(_Exposition(sums, workers)), content_type


class _Exposition(Collector):
    def __init__(self, sums: Sums, workers: Sequence[WorkerView]) -> None:
        self._sums = {**sums, **_reported(workers)}

    def collect(self) -> Iterator[_Family]:
        by_name: dict[str, list[tuple[Labels, list[float]]]] = {}
        for (name, labels), values in sorted(self._sums.items()):
            by_name.setdefault(name, []).append((labels, values))
        for metric in catalogue.CATALOGUE.values():
            yield _family(metric, by_name.get(metric.name, []))


def _family(metric: Metric, series: list[tuple[Labels, list[float]]]) -> _Family:
    # Another version's process may have counted under other labels or buckets.
    fitting = [
        (labels, values)
        for labels, values in series
        if (len(labels), len(values)) == (len(metric.labels), metric.words)
    ]
    match metric.kind:
        case "counter":
            counter = CounterMetricFamily(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
            for labels, (value,) in fitting:
                counter.add_metric(labels, value)
            return counter
        case "gauge":
            gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, (value,) in fitting:
                gauge.add_metric(labels, value)
            return gauge
        case "histogram":
            histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            bounds = [*map(str, metric.bounds), "+Inf"]
            for labels, (*counts, seconds) in fitting:
                histogram.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), seconds)
            return histogram


def _reported(workers: Sequence[WorkerView]) -> Sums:
    sums: Sums = {}
    for worker in workers:
        sums[catalogue.WORKER_UP.name, (worker.name,)] = [float(worker.status is not None)]
        if (status := worker.status) is None:
            continue
        sums[catalogue.WORKER_PHASE.name, (worker.name, status.phase)] = [1.0]
        for metric, value in (
            (catalogue.WORKER_RUNNING, status.running),
            (catalogue.WORKER_WAITING, status.waiting),
            (catalogue.WORKER_KV, status.kv_use),
            (catalogue.WORKER_STEPS, status.step),
            (catalogue.WORKER_PREFIX_QUERIES, status.prefix_queries),
            (catalogue.WORKER_PREFIX_HITS, status.prefix_hits),
            (catalogue.WORKER_LOG, status.log_bytes),
            (catalogue.WORKER_JOURNAL, status.journal_bytes),
        ):
            sums[metric.name, (worker.name,)] = [float(value)]
    return sums
