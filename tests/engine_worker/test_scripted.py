"""The scripted engine: it says what its script says, waits in line, fails on demand, and never repeats itself."""

import asyncio
import json
from collections import defaultdict
from typing import Any

import pytest

from engine_worker.engines.interface import EngineLoad, Resume, Turn, TurnPrepared, TurnRecord, TurnRejected
from engine_worker.engines.script import FIXED_TEXT, Voice, stamp
from engine_worker.engines.scripted import ScriptedEngine, build
from protocol.records import ReasoningDelta, Step, TextDelta, ToolCallDelta, TurnFinished, TurnStarted
from tests.pace import DEADLINE_S, slowness


class Stage:
    """An engine with what it emitted, by response."""

    def __init__(self, *arguments: str) -> None:
        self.deaths: list[str] = []
        engine = build(list(arguments), asyncio.get_running_loop(), self.deaths.append)
        assert isinstance(engine, ScriptedEngine)
        self.engine = engine
        self.emitted: dict[str, list[TurnRecord]] = defaultdict(list)
        self.prepared: dict[str, TurnPrepared] = {}
        self._changed = asyncio.Event()

    def emit(self, response_id: str, record: TurnRecord) -> None:
        if isinstance(record, TurnPrepared):
            assert response_id not in self.emitted, "prepared after it began"
            self.prepared[response_id] = record
        else:
            self.emitted[response_id].append(record)
        self._changed.set()

    async def start(self, response_id: str, script: dict[str, Any] | None = None, **fields: Any) -> None:
        body = {"input": "hi", **fields}
        if script is not None:
            body["metadata"] = {"script": json.dumps(script)}
        await self.engine.start_turn(Turn(response_id, 0, json.dumps(body).encode()), self.emit)

    async def resume(self, response_id: str, dead: "Stage", taken: int) -> list[TurnRecord]:
        """Go on after as many of the other engine's steps; returns what is said from then on."""
        resume = Resume(dead.prepared[response_id], tuple(steps(dead.emitted[response_id])[:taken]))
        await self.engine.start_turn(Turn(response_id, 0, b"not to be looked at", resume), self.emit)
        async with asyncio.timeout(DEADLINE_S):
            while not self.emitted[response_id]:
                self._changed.clear()
                await self._changed.wait()
        return await self.finished(response_id)

    async def finished(self, response_id: str) -> list[TurnRecord]:
        async with asyncio.timeout(DEADLINE_S):
            while not isinstance(self.emitted[response_id][-1], TurnFinished):
                self._changed.clear()
                await self._changed.wait()
        return self.emitted[response_id]

    async def play(self, response_id: str, script: dict[str, Any] | None = None, **fields: Any) -> list[TurnRecord]:
        await self.start(response_id, script, **fields)
        return await self.finished(response_id)


def steps(records: list[TurnRecord]) -> list[Step]:
    return [record for record in records if isinstance(record, Step)]


def text(records: list[TurnRecord]) -> str:
    return "".join(delta.text for step in steps(records) for delta in step.deltas if isinstance(delta, TextDelta))


def test_a_stamped_step_says_the_time_in_so_many_characters() -> None:
    assert stamp(Step((7,), ()), 8, 12_345_678) == Step((7,), (TextDelta("@12345.."),))


def test_with_a_step_turns_that_are_due_within_it_speak_at_its_end() -> None:
    voice = Voice("salt", step_s=0.5)
    assert [voice.step_at(due) for due in (1.0, 1.2, 1.49, 1.5)] == [1.5, 1.5, 1.5, 2.0]
    assert Voice("salt").step_at(1.2) == 1.2


def test_each_step_is_followed_by_another_one_step_later() -> None:
    voice, now = Voice("salt", step_s=0.02), 1000.0
    for number in range(1, 1001):
        now = voice.step_at(now)
        assert now == pytest.approx(1000 + number * 0.02, abs=1e-6)


async def test_without_a_script_a_fixed_text_is_said() -> None:
    records = await Stage().play("r")
    assert isinstance(records[0], TurnStarted)
    assert isinstance(records[-1], TurnFinished)
    assert text(records) == FIXED_TEXT
    assert records[-1].reason == "stop"
    assert records[-1].usage.output_tokens == len(steps(records))


async def test_a_script_is_played_as_written() -> None:
    script = {"reasoning": 3, "steps": 5, "tokens_per_step": 2, "tools": [{"name": "f", "arguments": '{"a": 12345}'}]}
    records = await Stage().play("r", script)
    deltas = [delta for step in steps(records) for delta in step.deltas]
    assert all(len(step.token_ids) == 2 for step in steps(records))
    assert [type(delta) for delta in deltas[:3]] == [ReasoningDelta] * 3
    calls = [delta for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert [call.name for call in calls] == ["f", None, None]
    assert "".join(call.arguments for call in calls) == '{"a": 12345}'
    finished = records[-1]
    assert isinstance(finished, TurnFinished)
    assert (finished.usage.output_tokens, finished.usage.reasoning_tokens) == (2 * len(steps(records)), 6)
    assert len(steps(records)) == 3 + 5 + 3


@pytest.mark.parametrize("reason", ["length", "error"])
async def test_a_turn_ends_as_the_script_says(reason: str) -> None:
    finished = (await Stage().play("r", {"steps": 1, "finish": reason}))[-1]
    assert isinstance(finished, TurnFinished)
    assert finished.reason == reason
    assert (finished.error is not None) == (reason == "error")


async def test_the_requests_own_limit_holds() -> None:
    records = await Stage().play("r", {"steps": 100}, max_output_tokens=16)
    assert len(steps(records)) == 16
    assert isinstance(records[-1], TurnFinished)
    assert records[-1].reason == "length"


async def test_the_same_script_is_never_said_twice_but_by_the_same_salt() -> None:
    script = {"steps": 200}
    said = [await Stage("--salt", salt).play("r", script) for salt in ("a", "b", "a")]
    assert text(said[0]) == text(said[2]) != text(said[1])
    assert steps(said[0]) == steps(said[2])
    grouping = [[len(step.deltas) for step in steps(records)] for records in said]
    assert grouping[0] != grouping[1]
    assert steps(await Stage().play("r", script)) != steps(await Stage().play("r", script))


@pytest.mark.parametrize(
    ("script", "param"),
    [({"stepz": 1}, "metadata.script"), ({"steps": "many"}, "metadata.script"), ({"reject": {"param": "x"}}, "x")],
)
async def test_what_can_not_be_played_is_rejected(script: dict[str, Any], param: str) -> None:
    stage = Stage()
    with pytest.raises(TurnRejected) as rejected:
        await stage.start("r", script)
    assert rejected.value.error.param == param
    assert stage.emitted == {}


async def test_another_model_is_rejected() -> None:
    with pytest.raises(TurnRejected) as rejected:
        await Stage().start("r", model="gpt-9")
    assert rejected.value.error.code == "model_not_found"


async def test_only_so_many_play_at_once_and_the_rest_waits_in_line() -> None:
    stage = Stage("--max-num-seqs", "2")
    for number in range(5):
        await stage.start(f"r{number}", {"steps": 3, "first_s": 60 if number < 2 else 0})
    assert stage.engine.load() == EngineLoad(step=0, running=2, waiting=3, kv_use=1.0, signs=1)
    for number in range(2):
        stage.engine.abort(f"r{number}")
    for number in range(5):
        await stage.finished(f"r{number}")
    assert list(stage.emitted) == [f"r{number}" for number in range(5)]
    assert stage.engine.load().running == stage.engine.load().waiting == 0
    assert stage.engine.load().step > 0


@pytest.mark.parametrize("place", ["running", "waiting"])
async def test_an_aborted_turn_says_so_and_nothing_more(place: str) -> None:
    stage = Stage("--max-num-seqs", "1")
    await stage.start("r0", {"steps": 1, "first_s": 60})
    await stage.start("r1", {"steps": 1})
    victim = "r0" if place == "running" else "r1"
    stage.engine.abort(victim)
    stage.engine.abort(victim)
    stage.engine.abort("nothing")
    finished = (await stage.finished(victim))[-1]
    assert isinstance(finished, TurnFinished)
    assert finished.reason == "aborted"
    assert len(stage.emitted[victim]) == 2


SCRIPTS: list[dict[str, Any]] = [
    {"steps": 30},
    {"text": "It is said once, and only once: kelp  holds fast to its rock, and so on to the end."},
    {"reasoning": 5, "steps": 10, "tokens_per_step": 2, "tools": [{"name": "f", "arguments": '{"a": 12345}'}]},
]


@pytest.mark.parametrize("script", SCRIPTS, ids=["words", "text", "all kinds"])
async def test_a_resumed_turn_goes_on_after_what_was_said(script: dict[str, Any]) -> None:
    whole = Stage("--salt", "whole")
    uninterrupted = await whole.play("r", script)
    for taken in range(len(steps(uninterrupted)) + 1):
        rest = await Stage("--salt", f"another {taken}").resume("r", whole, taken)
        assert isinstance(rest[-1], TurnFinished)
        assert rest[-1] == uninterrupted[-1]
        said = [*steps(uninterrupted)[:taken], *steps(rest)]
        assert len(said) == len(steps(uninterrupted))
        assert len(text([*said]).split()) == len(text(uninterrupted).split())
        if "text" in script:
            assert text([*said]) == script["text"]


async def test_a_resumed_turn_keeps_to_its_limit() -> None:
    whole = Stage()
    await whole.play("r", {"steps": 100}, max_output_tokens=16)
    for taken in (10, 16):
        rest = await Stage().resume("r", whole, taken)
        assert len(steps(rest)) == 16 - taken
        assert isinstance(rest[-1], TurnFinished)
        assert (rest[-1].reason, rest[-1].usage.output_tokens) == ("length", 16)


async def test_a_fault_strikes_a_resumed_turn_again_only_if_told_to() -> None:
    for again in (False, True):
        dead, next_one = Stage(), Stage()
        await dead.start("r", {"steps": 10, "die_after": 3, "fault_again": again})
        async with asyncio.timeout(DEADLINE_S):
            while not dead.deaths:
                await asyncio.sleep(0)
            resuming = asyncio.ensure_future(next_one.resume("r", dead, 3))
            while not (next_one.deaths or resuming.done()):
                await asyncio.sleep(0)
        assert bool(next_one.deaths) == again
        resuming.cancel()


async def test_another_model_does_not_resume() -> None:
    whole = Stage()
    await whole.play("r", {"steps": 5})
    with pytest.raises(TurnRejected) as rejected:
        await Stage("--model", "other").resume("r", whole, 2)
    assert rejected.value.error.code == "engine_lost"


async def test_times_are_kept() -> None:
    stage = Stage()
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    await stage.play("r", {"steps": 10, "first_s": 0.02, "interval_s": 0.005, "silence_s": 0.05})
    assert loop.time() - begun_at >= 0.02 + 10 * 0.005 * 0.75 + 0.05


async def test_a_scripted_death_is_reported_once() -> None:
    stage = Stage()
    await stage.start("r", {"steps": 10, "die_after": 3})
    async with asyncio.timeout(DEADLINE_S):
        while not stage.deaths:
            await asyncio.sleep(0)
    await stage.start("r2", {"steps": 1})
    await asyncio.sleep(0.01)
    assert len(steps(stage.emitted["r"])) == 3
    assert stage.deaths == ["the script says so, after 3 steps"]
    assert len(stage.emitted["r2"]) == 1


async def test_an_engine_that_is_only_silent_lives() -> None:
    stage = Stage()
    await stage.start("r", {"steps": 2, "first_s": 60})
    before = stage.engine.load()
    assert stage.engine.load().signs > before.signs


async def test_a_hung_engine_stands_still_and_gives_no_sign_of_life() -> None:
    stage = Stage()
    await stage.start("other", {"steps": 100_000, "interval_s": 0.001})
    await stage.start("r", {"steps": 10, "hang_after": 2})
    async with asyncio.timeout(DEADLINE_S):
        while len(steps(stage.emitted["r"])) < 2:
            await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    at = stage.engine.load()
    stage.engine.abort("r")
    await asyncio.sleep(0.02)
    assert stage.engine.load() == at
    assert at.running == 2


async def test_the_end_of_its_core_process_is_its_death() -> None:
    stage = Stage("--core")
    core = stage.engine._core
    assert core is not None
    core.kill()
    async with asyncio.timeout(DEADLINE_S):
        while not stage.deaths:
            await asyncio.sleep(0.005)


async def test_closing_ends_its_core_process_and_is_no_death() -> None:
    stage = Stage("--core")
    core = stage.engine._core
    assert core is not None
    await stage.engine.close()
    assert core.wait() != 0
    await asyncio.sleep(0.02)
    assert stage.deaths == []


async def test_an_unknown_argument_ends_the_build() -> None:
    with pytest.raises(SystemExit):
        Stage("--no-such-flag")


async def test_many_turns_at_once_are_fast() -> None:
    """A floor far below what it does (tens of thousands of records a second), to notice a change of kind."""
    loop = asyncio.get_running_loop()

    async def records_per_second() -> float:
        stage = Stage()
        begun_at = loop.time()
        for number in range(32):
            await stage.start(f"r{number}", {"steps": 300})
        for number in range(32):
            await stage.finished(f"r{number}")
        return 32 * 300 / (loop.time() - begun_at)

    assert max([slowness() * await records_per_second() for _ in range(3)]) > 5000
