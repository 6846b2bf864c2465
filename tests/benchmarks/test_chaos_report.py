"""The verdict and the figures of the chaos benchmark."""

import pytest

from benchmarks.chaos.faults import Action, Target
from benchmarks.chaos.recording import UNTERMINATED, Difference
from benchmarks.chaos.report import WINDOW_S, Report, build, growth, percentile, table, wrongs_of
from benchmarks.chaos.tally import Sample, Tally

MIB = 2**20


def tally(**fields: object) -> Tally:
    """A run in which all went well, but for these fields."""
    good = Tally(
        streams=3, events=30, open_gaps_s=[0.5, 0.6], broken_gaps_s=[1.5], left={"processes": 0, "journals": 0}
    )
    good.endings["completed"] = 3
    good.faults[Target.ACTOR, Action.KILL] = 2
    for name, value in fields.items():
        setattr(good, name, value)
    return good


def report_of(found: Tally) -> Report:
    return build({"seed": 1}, found, 0.0, 5 * WINDOW_S)


def steady(*, rss_last: int = 100 * MIB, files_last: int = 100, journals_last: int = 100) -> list[Sample]:
    """A sample every five seconds for five minutes; in the last of them as told."""
    samples = []
    for at_s in range(0, int(5 * WINDOW_S), 5):
        if at_s < 4 * WINDOW_S:
            samples.append(Sample(at_s, 10, 100 * MIB, 100, 100))
        else:
            samples.append(Sample(at_s, 10, rss_last, files_last, journals_last))
    return samples


def test_a_run_without_loss_passes_and_its_table_says_what_was_done() -> None:
    report = report_of(tally(samples=steady()))
    assert wrongs_of(report) == []
    text = table(report)
    assert "| streams, events | 3, 30 |" in text
    assert "| events lost / changed / repeated | 0 / 0 / 0 |" in text
    assert "| worker actor | 2 | 0 | 0 | 0 |" in text
    assert "| memory of all processes, first and last minute | 100 MiB, 100 MiB |" in text
    assert "| gap between two events at a client, p50 / p99 / max | 0.60 / 1.50 / 1.50 s |" in text
    assert "| the same, connection open all the while | 0.50 / 0.60 / 0.60 s |" in text


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"clients": Difference(lost=2)}, "2 events lost (clients)"),
        ({"observers": Difference(changed=1)}, "1 events changed (observers)"),
        ({"clients": Difference(repeated=1)}, "1 events repeated (clients)"),
        ({"endings": {"completed": 2, "failed: engine_lost": 1}}, "1 failed: engine_lost"),
        ({"endings": {"completed": 2, UNTERMINATED: 1}}, "1 unterminated"),
        ({"left": {"processes": 1, "journals": 0}}, "1 processes left behind"),
        ({"left": {"processes": -2, "journals": 0}}, "-2 processes left behind"),
        ({"samples": steady(rss_last=200 * MIB)}, f"rss_bytes grew from {100 * MIB} to {200 * MIB}"),
        ({"samples": steady(files_last=200)}, "files_open grew from 100 to 200"),
        ({"samples": steady(journals_last=170)}, "journals grew from 100 to 170"),
        ({"streams": 0, "endings": {}}, "nothing was measured"),
    ],
)
def test_whatever_must_not_be_is_named(fields: dict[str, object], wrong: str) -> None:
    assert wrongs_of(report_of(tally(**fields))) == [wrong]


def test_what_grows_within_the_noise_of_the_load_is_no_leak() -> None:
    assert wrongs_of(report_of(tally(samples=steady(rss_last=120 * MIB, files_last=130, journals_last=140)))) == []


def test_growth_is_measured_only_where_two_windows_fit() -> None:
    assert growth(steady(), 0.0, 2 * WINDOW_S) is not None
    assert growth(steady(), 10.0, 2 * WINDOW_S) is None
    assert growth([], 0.0, 5 * WINDOW_S) is None


@pytest.mark.parametrize(
    ("values", "share", "value"),
    [
        ([], 0.5, 0.0),
        ([3.0], 0.99, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        (list(map(float, range(1, 101))), 0.99, 99.0),
    ],
)
def test_percentiles_are_values_that_were_measured(values: list[float], share: float, value: float) -> None:
    assert percentile(values, share) == value
