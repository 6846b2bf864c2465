"""The schedule of faults: reproducible, complete, and never at the last one standing."""

from itertools import islice

from benchmarks.chaos.faults import KINDS, PAUSE_S, Action, Fault, Target, is_allowed, plan


def first(count: int, seed: int = 1, frontends: int = 4, workers: int = 3) -> list[Fault]:
    return list(islice(plan(seed, frontends, workers), count))


def test_a_seed_gives_the_same_faults_again_and_another_gives_others() -> None:
    assert first(100, seed=7) == first(100, seed=7)
    assert first(100, seed=7) != first(100, seed=8)


def test_every_kind_of_fault_comes_before_any_comes_again() -> None:
    once = [(fault.target, fault.action) for fault in first(len(KINDS))]
    assert sorted(once) == sorted((target, action) for target in Target for action in Action)


def test_faults_hit_every_service_that_there_is_and_no_other() -> None:
    faults = first(500, frontends=4, workers=2)
    assert {fault.number for fault in faults if fault.target.of_frontend} == set(range(4))
    assert {fault.number for fault in faults if not fault.target.of_frontend} == set(range(2))


def test_only_a_pause_has_a_length() -> None:
    for fault in first(200):
        if fault.action is Action.PAUSE:
            assert PAUSE_S[0] <= fault.pause_s <= PAUSE_S[1]
        else:
            assert fault.pause_s == 0


def test_only_the_kinds_asked_for_are_inflicted() -> None:
    faults = islice(plan(1, 2, 2, [(Target.ACTOR, Action.KILL)]), 50)
    assert {(fault.target, fault.action) for fault in faults} == {(Target.ACTOR, Action.KILL)}


def test_a_fault_needs_another_healthy_service() -> None:
    assert is_allowed(0, [True, True])
    assert is_allowed(0, [False, True])
    assert not is_allowed(0, [True, False])
    assert not is_allowed(0, [True])
