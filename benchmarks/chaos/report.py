"""What a run of the chaos benchmark found: figures, verdict and table. Pure."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.chaos.faults import Action, Target
from benchmarks.chaos.recording import UNTERMINATED, Difference
from benchmarks.chaos.tally import Sample, Tally

WINDOW_S: Final = 60.0
"""Growth is that between the medians of the first and of the last window."""
GROWTH_MAX: Final = {"rss_bytes": 64 * 2**20, "files_open": 64, "journals": 64}
"""What may be more by this or by a quarter, whichever is more, and is no leak: the load is never quite the same."""

Report = dict[str, Any]

_NAMES: Final = {
    "processes": "processes",
    "rss_bytes": "memory of all processes",
    "files_open": "open files of all processes",
    "journals": "journals",
}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def growth(samples: Sequence[Sample], from_s: float, until_s: float) -> dict[str, tuple[float, float]] | None:
    """The medians of the first and the last window between these times; None where they would overlap."""
    if until_s - from_s < 2 * WINDOW_S:
        return None
    first = [each for each in samples if from_s <= each.at_s < from_s + WINDOW_S]
    last = [each for each in samples if until_s - WINDOW_S <= each.at_s < until_s]
    if not first or not last:
        return None
    return {
        name: (
            statistics.median(getattr(each, name) for each in first),
            statistics.median(getattr(each, name) for each in last),
        )
        for name in _NAMES
    }


def build(settings: Mapping[str, Any], tally: Tally, from_s: float, until_s: float) -> Report:
    """All figures, ready for JSON; growth is measured between these times."""
    return {
        "settings": dict(settings),
        "streams": tally.streams,
        "events": tally.events,
        "endings": dict(tally.endings),
        "clients": vars(tally.clients),
        "observers": vars(tally.observers),
        "examples": tally.examples,
        "reconnects": dict(tally.reconnects),
        "faults": {target: {action.name: tally.faults[target, action] for action in Action} for target in Target},
        "gap_s": _spread([*tally.open_gaps_s, *tally.broken_gaps_s]),
        "open_gap_s": _spread(tally.open_gaps_s),
        "broken_gap_s": _spread(tally.broken_gaps_s),
        "resume_answered_s": _spread(tally.answered_s),
        "resume_first_event_s": _spread(tally.resumed_s),
        "load_lag_s": _spread(tally.lags_s),
        "growth": growth(tally.samples, from_s, until_s),
        "left": tally.left,
    }


def wrongs_of(report: Report) -> list[str]:
    """What must not be, in words; empty is a pass."""
    found = [f"{count} {how}" for how, count in report["endings"].items() if how != "completed"]
    for readers in ("clients", "observers"):
        found += [f"{count} events {how} ({readers})" for how, count in report[readers].items() if count]
    found += [f"{count} {what} left behind" for what, count in report["left"].items() if count]
    for name, (first, last) in (report["growth"] or {}).items():
        if name in GROWTH_MAX and last - first > max(GROWTH_MAX[name], first / 4):
            found.append(f"{name} grew from {first:.0f} to {last:.0f}")
    if not report["streams"] or report["endings"].get("completed", 0) == 0:
        found.append("nothing was measured")
    return found


def table(report: Report) -> str:
    """The report as Markdown."""
    differences = Difference(**report["clients"]) + Difference(**report["observers"])
    failed = {how: count for how, count in report["endings"].items() if how not in ("completed", UNTERMINATED)}
    rows = [
        ("streams, events", f"{report['streams']:,}, {report['events']:,}"),
        ("reconnects of clients and observers", f"{sum(report['reconnects'].values()):,}"),
        ("events lost / changed / repeated", f"{differences.lost} / {differences.changed} / {differences.repeated}"),
        ("responses failed", "; ".join(f"{count} {how}" for how, count in failed.items()) or "0"),
        ("streams without a terminal event", str(report["endings"].get(UNTERMINATED, 0))),
        ("gap between two events at a client, p50 / p99 / max", _seconds(report["gap_s"])),
        ("the same, connection open all the while", _seconds(report["open_gap_s"])),
        ("the same, with a reconnect in between", _seconds(report["broken_gap_s"])),
        ("resume: from the first request to its answer", _seconds(report["resume_answered_s"])),
        ("resume: from the first request to the first new event", _seconds(report["resume_first_event_s"])),
        ("lag of the load itself", _seconds(report["load_lag_s"])),
    ]
    rows += [
        (f"{_NAMES[name]}, first and last minute", _pair(name, pair)) for name, pair in (report["growth"] or {}).items()
    ]
    rows += [(f"{what} left behind", str(count)) for what, count in report["left"].items()]
    lines = ["| what | figure |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
    lines += [
        f"| {sum(sum(each.values()) for each in report['faults'].values())} faults | " + " | ".join(Action) + " |"
    ]
    lines += ["|---|" + "---|" * len(Action)]
    lines += [
        f"| {target} | " + " | ".join(map(str, each.values())) + " |" for target, each in report["faults"].items()
    ]
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> dict[str, float]:
    """In seconds."""
    figures = {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": max(values, default=0.0)}
    return {name: round(value, 4) for name, value in figures.items()}


def _seconds(spread: Mapping[str, float]) -> str:
    return " / ".join(f"{value:.2f}" for value in spread.values()) + " s"


def _pair(name: str, pair: tuple[float, float]) -> str:
    scale, unit = (2**20, " MiB") if name.endswith("_bytes") else (1, "")
    return f"{pair[0] / scale:,.0f}{unit}, {pair[1] / scale:,.0f}{unit}"
