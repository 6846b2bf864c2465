"""What the runs came to: medians, ratios, one table, and whether the goals are met. Pure."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from benchmarks.chaos.report import percentile
from benchmarks.vs_vllm.load import Answer

GOAL_STREAMS: Final = 32
BUSIEST_MAX: Final = 0.5
"""Of vLLM's API process: the processor time an output token costs our busiest serving process."""
SERVING_MAX: Final = 1.0
"""The same of all serving processes together."""
ONE_STREAM_MAX: Final = 0.5
DELAY_MAX: Final = 1.0


Level = tuple[str, int]
"""A kind of work, and how many streams at a time."""


class Run(msgspec.Struct):
    """One run of one server. Processor time is microseconds an output token, by role; `engine_us` and `client_us` are
    those of its engine's processes and of the clients. Memory is MiB of resident set size, shared pages counted in each
    process.
    """

    kind: str
    streams: int
    server: str
    tokens: int
    events: int
    wire_bytes: int
    wall_s: float
    first_ms: dict[str, float]
    text_ms: dict[str, float]
    gap_ms: dict[str, float]
    serving_us: dict[str, float]
    engine_us: float
    client_us: float
    rss_mib: dict[str, float]


class Took(msgspec.Struct):
    """What a run took: seconds, those of its serving processes by role, and bytes of memory, likewise."""

    wall_s: float
    serving_s: dict[str, float]
    engine_s: float
    client_s: float
    rss_bytes: dict[str, int]


def run_of(level: Level, server: str, answers: Sequence[Answer], took: Took) -> Run:
    """A run's figures."""
    tokens = sum(answer.tokens for answer in answers)
    kind, streams = level
    return Run(
        kind=kind,
        streams=streams,
        server=server,
        tokens=tokens,
        events=sum(answer.events for answer in answers),
        wire_bytes=sum(answer.wire_bytes for answer in answers),
        wall_s=round(took.wall_s, 4),
        first_ms=_spread_ms([answer.first_s for answer in answers]),
        text_ms=_spread_ms([answer.text_s for answer in answers]),
        gap_ms=_spread_ms([gap for answer in answers for gap in answer.gaps_s]),
        serving_us={role: round(seconds / tokens * 1e6, 2) for role, seconds in took.serving_s.items()},
        engine_us=round(took.engine_s / tokens * 1e6, 2),
        client_us=round(took.client_s / tokens * 1e6, 2),
        rss_mib={role: round(size / 2**20, 1) for role, size in took.rss_bytes.items()},
    )


def _spread_ms(seconds: Sequence[float]) -> dict[str, float]:
    return {"p50": round(percentile(seconds, 0.5) * 1e3, 3), "p99": round(percentile(seconds, 0.99) * 1e3, 3)}


FIGURES: Final[Mapping[str, Callable[[Run], float]]] = {
    "busiest us/token": lambda run: max(run.serving_us.values()),
    "serving us/token": lambda run: sum(run.serving_us.values()),
    "TTFT p50 ms": lambda run: run.first_ms["p50"],
    "TTFT p99 ms": lambda run: run.first_ms["p99"],
    "text p50 ms": lambda run: run.text_ms["p50"],
    "gap p99 ms": lambda run: run.gap_ms["p99"],
    "tokens/s": lambda run: run.tokens / run.wall_s,
    "events/s": lambda run: run.events / run.wall_s,
    "events/token": lambda run: run.events / run.tokens,
    "bytes/token": lambda run: run.wire_bytes / run.tokens,
    "engine us/token": lambda run: run.engine_us,
    "client us/token": lambda run: run.client_us,
    "RSS MiB": lambda run: sum(run.rss_mib.values()),
}
"""What is compared, each of one run."""
_SHOWN: Final = tuple(name for name in FIGURES if not name.startswith(("events/s", "bytes", "engine", "client")))
"""What is in the table; the others are in the file."""


class Compared(msgspec.Struct):
    """A figure's medians over the runs of one level, by server."""

    medians: dict[str, float]
    ratio: float | None
    """Ours to vLLM's; None where only one of them was measured."""


def compare(runs: Sequence[Run], ours: str, theirs: str) -> dict[Level, dict[str, Compared]]:
    """Every figure at every level, in the order of the runs."""
    levels: dict[Level, dict[str, Compared]] = {}
    for level in dict.fromkeys((run.kind, run.streams) for run in runs):
        of_level = [run for run in runs if (run.kind, run.streams) == level]
        levels[level] = {}
        for name, figure in FIGURES.items():
            values: dict[str, list[float]] = {}
            for run in of_level:
                values.setdefault(run.server, []).append(figure(run))
            medians = {server: round(statistics.median(each), 3) for server, each in values.items()}
            ratio = medians[ours] / medians[theirs] if medians.get(theirs) and ours in medians else None
            levels[level][name] = Compared(medians, ratio if ratio is None else round(ratio, 3))
    return levels


def verdicts(levels: Mapping[Level, Mapping[str, Compared]], parsers_kind: str) -> Iterator[tuple[str, bool]]:
    """Each goal that was measured, in words with its figure, and whether it is met."""
    for (kind, streams), figures in levels.items():

        def judged(figure: str, most: float, at: str = f"{kind}, {streams} streams") -> Iterator[tuple[str, bool]]:
            ratio = figures[figure].ratio  # noqa: B023 - used within this round of the loop
            if ratio is not None:
                yield f"{at}: {figure} at most {most} of vLLM's: {ratio:.2f}", ratio <= most

        if streams == GOAL_STREAMS and kind == parsers_kind:
            yield from judged("busiest us/token", BUSIEST_MAX)
            yield from judged("serving us/token", SERVING_MAX)
        if streams == 1:
            yield from judged("serving us/token", ONE_STREAM_MAX)
        for delay in ("TTFT p50 ms", "gap p99 ms"):
            yield from judged(delay, DELAY_MAX)


def table(levels: Mapping[Level, Mapping[str, Compared]]) -> str:
    """Text: a row a level; each cell has the servers' medians in their order, and the ratio."""
    rows = [["kind", "streams", *_SHOWN]]
    rows += [
        [kind, str(streams), *(_cell(figures[name]) for name in _SHOWN)] for (kind, streams), figures in levels.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _cell(compared: Compared) -> str:
    medians = " / ".join(_short(value) for value in compared.medians.values())
    return medians if compared.ratio is None else f"{medians} = {compared.ratio:.2f}"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
