"""A piece of text gets the log-probabilities of its own tokens."""

from engine_worker.engines.vllm.logprobs import LogprobsOfText
from protocol.records import TokenLogprob


def waiting(*tokens: str) -> LogprobsOfText:
    logprobs = LogprobsOfText()
    logprobs.add(TokenLogprob(token, -0.5) for token in tokens)
    return logprobs


def taken(logprobs: LogprobsOfText, text: str) -> list[str]:
    return [token.token for token in logprobs.take(text)]


def test_text_gets_its_tokens_and_the_rest_waits() -> None:
    logprobs = waiting("Hel", "lo", " there", "!")
    assert taken(logprobs, "Hello") == ["Hel", "lo"]
    assert taken(logprobs, " there") == [" there"]
    assert taken(logprobs, "!") == ["!"]
    assert taken(logprobs, "?") == []


def test_swallowed_tokens_before_the_text_are_forgotten() -> None:
    assert taken(waiting("</think>", "\n\n", "Hello"), "Hello") == ["Hello"]


def test_a_token_that_is_partly_shown_counts() -> None:
    assert taken(waiting("6", ", 7"), "6, ") == ["6", ", 7"]


def test_what_no_run_of_tokens_spells_takes_all_that_wait() -> None:
    logprobs = waiting("�", "�")
    assert taken(logprobs, "é") == ["�", "�"]
    assert taken(logprobs, "é") == []


def test_cleared_tokens_are_gone() -> None:
    logprobs = waiting("<tool_call>")
    logprobs.clear()
    assert taken(logprobs, "x") == []
