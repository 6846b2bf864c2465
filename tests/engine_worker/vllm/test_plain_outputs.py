"""A step whose every output brings tokens and no more is taken at once; all else is vLLM's, in the order of steps."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


def output(request_id: str, token_ids: list[int], **more: Any) -> Any:
    """What EngineCore says of a request."""
    from vllm.v1.engine import EngineCoreOutput  # imports vLLM, which takes seconds

    return EngineCoreOutput(request_id, token_ids, **more)


def message(*outputs: Any, **more: Any) -> bytes:
    """A step as EngineCore encodes it."""
    from vllm.v1.engine import EngineCoreOutputs
    from vllm.v1.metrics.stats import SchedulerStats
    from vllm.v1.serial_utils import MsgpackEncoder

    stats = SchedulerStats(num_running_reqs=len(outputs), kv_cache_usage=0.5)
    step = EngineCoreOutputs(outputs=list(outputs), scheduler_stats=stats, weight_version="default", **more)
    (frame,) = MsgpackEncoder().encode(step)
    return bytes(frame)


def spelling(stop: list[str]) -> Any:
    """A detokenizer that says a token's number."""
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.detokenizer import BaseIncrementalDetokenizer

    class Spelling(BaseIncrementalDetokenizer):  # type: ignore[misc]
        def decode_next(self, next_token_id: int) -> str:
            return f"{next_token_id} "

    return Spelling(SimpleNamespace(sampling_params=SamplingParams(stop=stop)))


class Vllm:
    """What `PlainOutputs` touches of an AsyncLLM, and the way that is vLLM's."""

    def __init__(self) -> None:
        from engine_worker.engines.vllm.load import LoadReading
        from engine_worker.engines.vllm.plain_outputs import PlainOutputs

        self.engine_core: Any = SimpleNamespace(outputs_queue=asyncio.Queue(), get_output_async=self._get)
        self.output_processor: Any = SimpleNamespace(process_outputs=self._process)
        self.processed: list[Any] = []
        self.outputs: list[tuple[str, list[int], str]] = []
        self.reading = LoadReading()
        self.plain = PlainOutputs(self, self.reading)
        self.handler = asyncio.create_task(self._handle())

    async def _get(self) -> Any:
        return await self.engine_core.outputs_queue.get()

    def _process(self, outputs: list[Any], *rest: Any, **_: Any) -> Any:
        self.processed += outputs
        return rest

    async def _handle(self) -> None:
        while True:
            outputs = await self.engine_core.get_output_async()
            self.output_processor.process_outputs(outputs, 1.0, None, weight_version="default")

    def begin(self, request_id: str, stop: list[str] | None = None) -> Any:
        """Let a request go the short way; returns its detokenizer."""

        def take(output: Any) -> None:
            assert (output.logprobs, output.finish_reason, output.cached_tokens) == (None, None, 3)
            self.outputs.append((request_id, output.token_ids, output.text))

        state: Any = SimpleNamespace(
            request_id=request_id, detokenizer=spelling(stop or []), num_cached_tokens=3, stream_interval=1
        )
        self.plain.begin(state, take)
        return state.detokenizer


@pytest.fixture
async def vllm() -> AsyncIterator[Vllm]:
    vllm = Vllm()
    await asyncio.sleep(0)  # the handler waits
    yield vllm
    vllm.handler.cancel()


async def test_this_vllms_messages_are_as_they_are_taken_to_be() -> None:
    from engine_worker.engines.vllm.plain_outputs import missing_fields

    assert missing_fields() == []


async def test_a_plain_step_is_taken_at_once(vllm: Vllm) -> None:
    one = vllm.begin("one")
    vllm.begin("two")
    assert vllm.plain.take_step(message(output("two", [7]), output("one", [8, 9])))
    assert vllm.outputs == [("two", [7], "7 "), ("one", [8, 9], "8 9 ")]
    assert one.output_token_ids == [8, 9]
    assert one.get_next_output_text(finished=True, delta=True) == ""  # all was handed over
    load = vllm.reading.load(2)
    assert (load.step, load.running, load.kv_use, load.signs) == (1, 2, 0.5, 1)


def _ways_to_say_more() -> Iterator[dict[str, Any]]:
    from vllm.v1.engine import EngineCoreEvent, EngineCoreEventType, FinishReason

    yield {"finish_reason": FinishReason.LENGTH}
    yield {"stop_reason": "word"}
    yield {"events": [EngineCoreEvent(EngineCoreEventType.PREEMPTED, 1.0)]}
    yield {"trace_headers": {"a": "b"}}
    yield {"num_nans_in_logits": 1}
    yield {"mm_cache_miss_hashes": ["a"]}


async def test_an_output_that_says_more_is_vllms(vllm: Vllm) -> None:
    vllm.begin("one")
    vllm.begin("two")
    for what in _ways_to_say_more():
        vllm.processed.clear()
        vllm.outputs.clear()
        plain, more = output("one", [1]), output("two", [2], **what)
        assert not vllm.plain.take_step(message(plain, more))
        vllm.output_processor.process_outputs([plain, more], 1.0, None)
        assert vllm.processed == [more]
        assert vllm.outputs == [("one", [1], "1 ")]


@pytest.mark.parametrize("more", [{"finished_requests": {"one"}}, {"wave_complete": 1}, {"start_wave": 1}])
async def test_a_step_that_says_more_is_vllms(vllm: Vllm, more: dict[str, Any]) -> None:
    vllm.begin("one")
    assert not vllm.plain.take_step(message(output("one", [1]), **more))
    assert not vllm.outputs


@pytest.mark.parametrize("garbage", [b"", b"ENGINE_CORE_DEAD", b"\xc1", b"\x94\x00\x90\xc0\xcb"])
async def test_what_is_no_step_is_vllms(vllm: Vllm, garbage: bytes) -> None:
    vllm.begin("one")
    assert not vllm.plain.take_step(garbage)


async def test_a_request_goes_short_only_while_it_runs_and_has_no_stop_string(vllm: Vllm) -> None:
    vllm.begin("over")
    vllm.plain.end("over")
    vllm.plain.end("over")
    vllm.begin("stops", stop=["word"])
    for request_id in ("over", "stops", "never begun"):
        brought = output(request_id, [1])
        assert not vllm.plain.take_step(message(brought))
        vllm.output_processor.process_outputs([brought])
    assert [brought.request_id for brought in vllm.processed] == ["over", "stops", "never begun"]
    assert not vllm.outputs


async def test_no_step_overtakes_one_that_vllm_has_in_hand(vllm: Vllm) -> None:
    vllm.begin("one")
    vllm.engine_core.outputs_queue.put_nowait([output("one", [1])])
    assert not vllm.plain.take_step(message(output("one", [2])))  # it lies in the queue
    await asyncio.sleep(0)
    assert vllm.plain.take_step(message(output("one", [3])))
    assert [token_ids for _, token_ids, _ in vllm.outputs] == [[1], [3]]


async def test_vllm_is_left_as_it_was(vllm: Vllm) -> None:
    vllm.plain.close()
    assert not hasattr(vllm.engine_core, "get_output_async")  # which here is vLLM's class's
    assert not hasattr(vllm.output_processor, "process_outputs")
