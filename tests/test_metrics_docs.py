"""docs/METRICS.md and the Grafana dashboard against the metrics there are."""

import json
import re
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Any

from frontend.metrics.catalogue import CATALOGUE

DOCS = Path(__file__).resolve().parents[1] / "docs"
DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana-dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SELECTED = re.compile(r"\b(holdfast_[a-z_]+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
BY_PROMETHEUS = {"le", "instance", "job"}


def table() -> str:
    """The table that METRICS.md must have."""
    rows = ["| Metric | Type | Labels | What |", "|---|---|---|---|"]
    for metric in CATALOGUE.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(rows)


def series() -> dict[str, set[str]]:
    """The labels of every series that Prometheus has of us, by its name."""
    found: dict[str, set[str]] = {}
    for metric in CATALOGUE.values():
        ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        found |= {metric.name + end: {*metric.labels, *BY_PROMETHEUS} for end in ends}
    return found


def wrong(query: str) -> Iterator[str]:
    """What a query asks for that there is not."""
    labels: set[str] = set()
    for name, selectors in SELECTED.findall(query):
        there = series().get(name)
        if there is None:
            yield f"{name} in {query}"
        else:
            labels |= there
            yield from (f"{name}: {label}" for label in re.findall(r"(\w+)\s*[=!]", selectors) if label not in there)
    for grouping in GROUPED.findall(query):
        yield from (f"by {label} in {query}" for label in grouping.split(", ") if label not in labels)


def test_metrics_md_lists_every_metric_as_it_is() -> None:
    assert table() in (DOCS / "METRICS.md").read_text(), f"docs/METRICS.md must have this table:\n\n{table()}\n"


def test_alert_rules_ask_for_what_there_is() -> None:
    rules = re.findall(r"^ +expr: (.*)$", (DOCS / "METRICS.md").read_text(), re.MULTILINE)
    assert len(rules) >= 5
    assert [found for rule in rules for found in wrong(rule)] == []


def test_the_dashboard_asks_for_what_there_is_and_shows_all_of_it() -> None:
    queries = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
    assert [found for query in queries for found in wrong(query)] == []
    shown = {name for query in queries for name, _ in SELECTED.findall(query)}
    assert {name for name in CATALOGUE if not {name, f"{name}_bucket"} & shown} == set()


def test_the_checks_of_queries_find_what_is_wrong() -> None:
    assert list(wrong("sum(rate(holdfast_turns[5m]))"))
    assert list(wrong("sum by (code) (rate(holdfast_turns_total[5m]))"))
    assert list(wrong('rate(holdfast_turns_total{code="200"}[5m])'))


def test_the_dashboard_is_what_grafana_imports() -> None:
    assert DASHBOARD["title"]
    assert DASHBOARD["schemaVersion"] >= 36
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for panel in PANELS:
        assert panel["type"] in ("row", "timeseries")
        assert 0 <= panel["gridPos"]["x"] <= 24 - panel["gridPos"]["w"]
        for target in panel.get("targets", []):
            assert set(re.findall(r"\$(?!__)\{?(\w+)", json.dumps(target))) <= variables
    assert not [pair for pair in combinations(PANELS, 2) if cells(pair[0]) & cells(pair[1])]


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    """Where the panel is on the grid."""
    at = panel["gridPos"]
    return set(product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
