"""How often and how soon a dead process is started again."""

import pytest

from engine_worker.restarts import RestartPolicy


def test_each_restart_in_a_window_waits_twice_as_long_up_to_a_bound() -> None:
    policy = RestartPolicy(restart_max=6, window_s=300, backoff_s=0.5, backoff_max_s=3)
    assert [policy.after_death(now) for now in range(6)] == [0.5, 1, 2, 3, 3, 3]


def test_past_the_limit_there_is_no_restart() -> None:
    policy = RestartPolicy(restart_max=2, window_s=300, backoff_s=0.5, backoff_max_s=3)
    assert [policy.after_death(now) is None for now in range(4)] == [False, False, True, True]
    assert repr(policy) == "<RestartPolicy: 2 of 2 in 300 s>"


@pytest.mark.parametrize(("now", "delay_s"), [(99.0, 1.0), (100.0, 0.5)])
def test_a_restart_is_forgotten_after_the_window(now: float, delay_s: float) -> None:
    policy = RestartPolicy(restart_max=2, window_s=100, backoff_s=0.5, backoff_max_s=3)
    policy.after_death(0.0)
    assert policy.after_death(now) == delay_s


def test_no_restarts_may_be_allowed() -> None:
    assert RestartPolicy(restart_max=0, window_s=100, backoff_s=0.5, backoff_max_s=3).after_death(0.0) is None
