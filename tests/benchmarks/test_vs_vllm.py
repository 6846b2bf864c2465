"""The pure parts of the comparison with vLLM's own server: counting events, medians and verdicts, flags, tokenizers."""

import json
from typing import Any

import pytest

from benchmarks.vs_vllm.dummy import ARCHITECTURES, padded, write_model
from benchmarks.vs_vllm.load import Answer, EventScan
from benchmarks.vs_vllm.report import Run, Took, compare, run_of, table, verdicts
from benchmarks.vs_vllm.servers import engine_flags, vllm_flags
from benchmarks.vs_vllm.work import Kind, bodies, levels_of

STREAM = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'2a\r\nevent: response.created\ndata: {"type":"x"}\n\n\r\n'
    b'30\r\nevent: response.output_text.delta\ndata: {"delta":"a"}\n\n\r\n'
    b'30\r\nevent: response.output_text.delta\ndata: {"delta":"b"}\n\n\r\n'
    b'99\r\nevent: response.completed\ndata: {"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}\n\n'
    b"\r\n0e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)


def scanned(*reads: bytes) -> Answer:
    """What a scan makes of these reads, a second apart."""
    scan = EventScan(0.0)
    for second, data in enumerate(reads, 1):
        scan.feed(data, float(second))
    return scan.answer()


@pytest.mark.parametrize("size", [1, 2, 7, 100, len(STREAM)])
def test_events_are_counted_however_the_bytes_are_cut(size: int) -> None:
    answer = scanned(*(STREAM[start : start + size] for start in range(0, len(STREAM), size)))
    assert (answer.events, answer.tokens, answer.wire_bytes) == (4, 2, len(STREAM))
    assert answer.text_s == STREAM.index(b'a"}') // size + 1


def test_the_first_delta_and_the_gaps_after_it_are_timed() -> None:
    cut = [STREAM.index(b"30\r\n"), STREAM.rindex(b"30\r\n"), STREAM.index(b"99\r\n"), len(STREAM)]
    answer = scanned(*(STREAM[start:end] for start, end in zip([0, *cut], cut, strict=False)))
    assert (answer.first_s, answer.text_s) == (2.0, 2.0)
    assert answer.gaps_s == [1.0, 1.0]


@pytest.mark.parametrize("newlines", [rb"\n", rb"\n\r\n", b""])
def test_a_delta_of_newlines_shows_no_text(newlines: bytes) -> None:
    stream = STREAM.replace(b'"delta":"a"', b'"delta": "' + newlines + b'"')
    cut = [stream.index(b"30\r\n"), stream.rindex(b"30\r\n"), stream.index(b"99\r\n"), len(stream)]
    answer = scanned(*(stream[start:end] for start, end in zip([0, *cut], cut, strict=False)))
    assert (answer.first_s, answer.text_s) == (2.0, 3.0)


@pytest.mark.parametrize("broken", [b"", b"HTTP/1.1 429 Too Many Requests\r\n\r\n", STREAM[: STREAM.index(b"99\r\n")]])
def test_what_is_no_whole_stream_is_an_error(broken: bytes) -> None:
    with pytest.raises(ValueError, match="not a whole stream"):
        scanned(broken)


def run(server: str, kind: str, streams: int, *, busiest_us: float, first_s: float) -> Run:
    """A run of 1,000 tokens, whose serving processes took this much in one and a fifth of it in another."""
    used = {"one": busiest_us / 1e3, "other": busiest_us / 5e3}
    took = Took(wall_s=2.0, serving_s=used, engine_s=1.0, client_s=0.1, rss_bytes={"one": 2**20, "other": 2**21})
    return run_of((kind, streams), server, [Answer(1100, 5000, 1000, first_s, first_s, [0.01, 0.02])], took)


def test_ratios_are_those_of_medians_and_goals_are_judged_by_them() -> None:
    runs = [run("vllm", "parsers", 32, busiest_us=100.0, first_s=0.2) for _ in range(3)]
    runs += [run("holdfast", "parsers", 32, busiest_us=us, first_s=0.3) for us in (40.0, 48.0, 900.0)]
    levels = compare(runs, "holdfast", "vllm")
    busiest = levels["parsers", 32]["busiest us/token"]
    assert (busiest.medians, busiest.ratio) == ({"vllm": 100.0, "holdfast": 48.0}, 0.48)
    assert [met for _, met in verdicts(levels, "parsers")] == [True, True, False, True]
    assert "100 / 48 = 0.48" in table(levels)


def test_one_stream_has_a_goal_of_its_own_and_one_server_alone_has_none() -> None:
    both = [run(server, "text", 1, busiest_us=50.0, first_s=0.1) for server in ("holdfast", "vllm")]
    assert [met for _, met in verdicts(compare(both, "holdfast", "vllm"), "parsers")] == [False, True, True]
    assert list(verdicts(compare(both[:1], "holdfast", "vllm"), "parsers")) == []


def test_both_servers_start_their_engines_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.vs_vllm.servers.on_cpu", lambda: True)
    with_parsers, without = engine_flags((), parsers=True), engine_flags((), parsers=False)
    assert {"--tool-call-parser", "--reasoning-parser"} <= set(with_parsers)
    assert not {"--tool-call-parser", "--reasoning-parser", "hermes", "qwen3"} & set(without)
    for flags in (with_parsers, without):
        theirs = vllm_flags(flags)
        assert " ".join(flags) in " ".join(theirs)
        assert ("--enable-auto-tool-choice" in theirs) == ("--tool-call-parser" in flags)


def test_a_kind_asks_for_the_same_number_of_tokens_in_every_stream() -> None:
    for kind in Kind:
        made = bodies(kind, 8, 50, store=False, model="m", temperature=0.0)
        assert [body["max_output_tokens"] for body in made] == [50] * 8
        assert ["tools" in body for body in made] == [kind is Kind.TOOLS] * 8
    assert len(bodies(Kind.TEXT, 1, 50, store=False)) > 1
    assert levels_of(Kind.STORED, [1, 8, 32, 128]) == [32]


def test_every_token_of_a_padded_tokenizer_has_a_text_of_its_own() -> None:
    small: dict[str, Any] = {"model": {"vocab": {"a": 1, "b": 2}}, "added_tokens": [{"id": 0, "content": "<|end|>"}]}
    vocabulary = padded(small, 6)["model"]["vocab"]
    assert sorted(vocabulary.values()) == [1, 2, 3, 4, 5]


def test_a_dummy_model_is_a_configuration_and_a_tokenizer(tmp_path: Any) -> None:
    flags = write_model(tmp_path, "tiny")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == ARCHITECTURES["tiny"]
    assert len(json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]) <= config["vocab_size"]
    assert flags[flags.index("--model") + 1] == str(tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
