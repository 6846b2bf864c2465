"""`Open`: a response begins, is joined, or is refused and leaves nothing behind."""

import pytest

from engine_worker.mailbox import EngineReady, TurnQueued, TurnRefused
from protocol.commands import Attach, Open
from protocol.records import CancelRequested, ErrorDetail, Opened, OwnerGranted, SamplingDefaults, Step, TurnStarted
from protocol.reports import Attached, ModelCard, Rejected, Status, Unknown
from tests.engine_worker.world import UNIX_TIME, World

REFUSAL = ErrorDetail("invalid_request_error", "invalid_value", "too hot", "temperature")


def test_a_response_begins_with_who_asked_who_owns_and_its_turn() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.say(frontend, Open(7, "r", UNIX_TIME, b'{"input":"hi"}', "open-responses", True))
    assert [turn.request for turn in world.turns] == [b'{"input":"hi"}']
    assert frontend.log(7) == [
        Opened("r", UNIX_TIME, b'{"input":"hi"}', "open-responses", True),
        OwnerGranted("f1", 1),
        TurnStarted(0, 5),
    ]
    assert frontend.got(Attached) == [Attached(7, 3)]


def test_the_log_says_what_the_model_is_sampled_with_where_the_request_does_not() -> None:
    world = World(ready=False)
    frontend = world.frontend("f1")
    cool = SamplingDefaults(temperature=0.3)
    world.give(EngineReady((ModelCard("m", sampling=cool),)))
    world.open(frontend, "r")
    opened = frontend.log(1)[0]
    assert isinstance(opened, Opened)
    assert opened.sampling == cool


def test_there_is_no_log_before_the_engine_took_the_turn() -> None:
    world = World(start_turns=False)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    assert frontend.got(Attached) == []
    world.take_turn("r")
    assert frontend.got(Attached) == [Attached(1, 3)]


def test_steps_that_outrun_the_answer_are_not_lost() -> None:
    world = World(start_turns=False)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.emit("r", TurnStarted(0, 5))
    world.step("r")
    world.give(TurnQueued("r"))
    assert [type(record) for record in frontend.log(1)] == [Opened, OwnerGranted, TurnStarted, Step]


def test_a_refused_turn_leaves_nothing_behind() -> None:
    world = World(start_turns=False)
    opener, early = world.frontend("f1"), world.frontend("f2")
    world.open(opener, "r")
    world.attach(early, "r")
    world.give(TurnRefused("r", REFUSAL))
    assert opener.got(Rejected) == [Rejected(1, REFUSAL)]
    assert early.got(Unknown) == [Unknown(1)]
    world.attach(opener, "r", reader=2)
    assert opener.got(Unknown) == [Unknown(2)]
    assert "0 live, 0 closed, 0 bytes" in repr(world.actor)


def test_the_same_open_again_joins_the_response() -> None:
    world = World()
    first, second = world.frontend("f1"), world.frontend("f2")
    world.open(first, "r")
    world.step("r")
    world.open(second, "r")
    world.open(first, "r", reader=9)
    assert len(world.turns) == 1
    assert first.log(1) == second.log(1) == first.log(9)
    assert first.log(1)[1] == OwnerGranted("f1", 1)


def test_the_same_open_again_joins_one_that_is_still_starting() -> None:
    world = World(start_turns=False)
    first, second = world.frontend("f1"), world.frontend("f2")
    world.open(first, "r")
    world.open(first, "r")
    world.open(second, "r")
    assert len(world.turns) == 1
    world.take_turn("r")
    assert len(first.got(Attached)) == len(second.got(Attached)) == 1
    assert first.log(1) == second.log(1)


@pytest.mark.parametrize("taken", [True, False])
def test_another_request_under_the_same_id_is_a_mismatch(taken: bool) -> None:
    world = World(start_turns=taken)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.open(frontend, "r", reader=2, request=b'{"other":1}')
    (rejected,) = frontend.got(Rejected)
    assert (rejected.reader, rejected.error.type) == (2, "idempotency_error")
    assert rejected.error.code == "idempotency_mismatch"
    assert len(world.turns) == 1


def test_a_closed_response_is_joined_too() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.finish("r")
    world.close(frontend, "r")
    world.open(frontend, "r", reader=2)
    assert len(world.turns) == 1
    assert frontend.log(2) == frontend.log(1)


def test_who_leaves_while_the_turn_starts_is_not_attached() -> None:
    world = World(start_turns=False)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.detach(frontend)
    world.take_turn("r")
    assert frontend.got(Attached) == []


def test_a_response_whose_opener_died_meanwhile_is_offered_on() -> None:
    world = World(start_turns=False)
    opener, other = world.frontend("f1"), world.frontend("f2")
    world.open(opener, "r")
    opener.gone = True
    world.advance(3)
    world.take_turn("r")
    world.attach(other, "r")
    world.advance(1)
    assert [record for record in other.log(1) if isinstance(record, OwnerGranted)] == [
        OwnerGranted("f1", 1),
        OwnerGranted("f2", 2),
    ]


def test_an_abort_while_the_turn_starts_is_carried_out_then() -> None:
    world = World(start_turns=False)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.abort(frontend, "r")
    assert world.aborted == []
    world.take_turn("r")
    assert world.aborted == ["r"]
    assert frontend.log(1)[-1] == CancelRequested("client")


def test_nothing_new_is_taken_while_the_model_loads() -> None:
    world = World(ready=False)
    frontend = world.frontend("f1")
    assert frontend.got(Status)[-1].phase == "loading"
    world.open(frontend, "r")
    (rejected,) = frontend.got(Rejected)
    assert (rejected.error.type, rejected.error.code) == ("server_error", "engine_unavailable")
    assert world.turns == []


def test_too_many_live_responses_are_refused_and_closed_ones_make_room() -> None:
    world = World(responses_max=2)
    frontend = world.frontend("f1")
    world.open(frontend, "r1", reader=1)
    world.open(frontend, "r2", reader=2)
    world.open(frontend, "r3", reader=3)
    (rejected,) = frontend.got(Rejected)
    assert (rejected.reader, rejected.error.code) == (3, "overloaded")
    world.close(frontend, "r1")
    world.open(frontend, "r3", reader=3)
    assert [turn.response_id for turn in world.turns] == ["r1", "r2", "r3"]
    world.say(frontend, Attach(4, "r1", 0, True))
    assert frontend.got(Unknown) == [Unknown(4)]


def test_responses_that_are_starting_count_against_the_bound() -> None:
    world = World(start_turns=False, responses_max=1)
    frontend = world.frontend("f1")
    world.open(frontend, "r1", reader=1)
    world.open(frontend, "r2", reader=2)
    assert [rejected.reader for rejected in frontend.got(Rejected)] == [2]


def test_memory_full_of_live_logs_refuses_new_work() -> None:
    world = World(log_bytes_max=4000)
    frontend = world.frontend("f1")
    world.open(frontend, "r1")
    world.step("r1", text="x" * 4000)
    world.open(frontend, "r2", reader=2)
    assert [rejected.error.code for rejected in frontend.got(Rejected)] == ["overloaded"]
    assert len(frontend.log(1)) == 4
