"""Too long an input loses whole items, oldest first, and never half of a pair."""

from engine_worker.engines.vllm.request import Json
from engine_worker.engines.vllm.truncation import Shortening


def message(text: str) -> Json:
    return {"type": "message", "role": "user", "content": text}


def call(call_id: str) -> Json:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}


def output(call_id: str) -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": "x"}


THINK = {"type": "reasoning", "text": "think"}


def shorter_inputs(*items: Json) -> list[list[Json]]:
    shortening = Shortening(items)
    return [list(shortening.without_oldest(groups)) for groups in range(1, len(shortening) + 1)]


def test_oldest_messages_go_first_and_the_newest_stays() -> None:
    a, b, c = message("a"), message("b"), message("c")
    assert shorter_inputs(a, b, c) == [[b, c], [c]]


def test_a_single_item_can_not_be_shortened() -> None:
    assert shorter_inputs(message("a")) == []
    assert shorter_inputs() == []


def test_a_call_goes_with_its_output_also_when_calls_are_parallel() -> None:
    items = (message("q"), call("1"), call("2"), output("1"), output("2"), message("thanks"))
    assert shorter_inputs(*items) == [
        [call("1"), call("2"), output("1"), output("2"), message("thanks")],
        [call("2"), output("2"), message("thanks")],
        [message("thanks")],
    ]


def test_reasoning_goes_with_what_it_led_to() -> None:
    items = (THINK, call("1"), output("1"), message("b"))
    assert shorter_inputs(*items) == [[message("b")]]
