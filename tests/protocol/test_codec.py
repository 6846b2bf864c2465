"""Messages survive the wire, and what is no message is refused by name."""

import msgspec
import pytest

from protocol import codec, commands, records, reports

ERROR = records.ErrorDetail("invalid_request_error", "invalid_value", "temperature is -1", "temperature")

RECORDS: list[records.Record] = [
    records.Opened("resp_1", 1_700_000_000, b'{"input":"hi"}', "open-responses", True),
    records.OwnerGranted("f1", 2),
    records.TurnStarted(0, 12),
    records.Step(
        (5,), (records.TextDelta("hé", (records.TokenLogprob("hé", -0.5, (records.TopLogprob("a", -1.0),)),)),)
    ),
    records.Step((6, 7), (records.ReasoningDelta("hm"), records.ToolCallDelta(0, "f", "{"), records.ToolCallDelta(1))),
    records.Step((8,)),
    records.Progress(1.5),
    records.TurnFinished("stop", records.Usage(12, 8, 3, 1)),
    records.TurnFinished("error", records.Usage(), ERROR),
    records.CancelRequested("disconnected"),
    records.DeleteRequested(),
    records.Closed("failed", 1_700_000_001, ERROR),
]

COMMANDS: list[commands.Command] = [
    commands.Hello(1, "f1"),
    commands.Open(1, "resp_1", 1_700_000_000, b"{}"),
    commands.Attach(1, "resp_1", 7, client=True),
    commands.Pause(1),
    commands.Detach(1),
    commands.Close("resp_1", 1, "completed", 1_700_000_001),
    commands.Abort("resp_1"),
    commands.Delete("resp_1"),
    commands.Stored("resp_1", 3),
    commands.Release("resp_1", 1),
]

REPORTS: list[reports.Report] = [
    reports.Welcome("worker-0", "abc", 1),
    reports.Refused("version 9", (1,)),
    reports.Stale("abc"),
    reports.Missed(),
    reports.Missed(),
    reports.Attached(1, 3),
    reports.Rejected(1, ERROR),
    reports.Unknown(1),
    reports.Offered("resp_1", 2),
    reports.Took(("resp_1", "resp_2")),
    reports.Status("ready", 4, 10, 2, 1, 0.5, 99, (reports.ModelCard("m", ("n",), 4096),), (reports.QueuePlace(1, 2),)),
    reports.Goodbye("the engine died", 5),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_record_survives_the_wire(record: records.Record) -> None:
    assert codec.decode_record(codec.encode_record(record)) == record


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_command_survives_the_wire_with_its_incarnation(command: commands.Command) -> None:
    assert codec.decode_command(codec.encode_command("abc", command)) == commands.Addressed("abc", command)


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_report_survives_the_wire(report: reports.Report) -> None:
    assert codec.decode_report(codec.encode_report(report)) == report


def test_every_message_type_is_tried_above() -> None:
    for union, tried in ((records.Record, RECORDS), (commands.Command, COMMANDS), (reports.Report, REPORTS)):
        missing = set(union.__args__) - {type(message) for message in tried} - {reports.Records}
        assert not missing


def test_records_travel_encoded_once_inside_a_batch() -> None:
    raw = tuple(msgspec.Raw(codec.encode_record(record)) for record in RECORDS)
    sent = reports.Records((reports.Batch(3, 40, raw),))
    received = codec.decode_report(codec.encode_report(sent))
    assert isinstance(received, reports.Records)
    [batch] = received.batches
    assert (batch.reader, batch.offset) == (3, 40)
    assert [codec.decode_record(record) for record in batch.records] == RECORDS


def test_a_field_appended_by_a_newer_version_is_ignored() -> None:
    newer = msgspec.msgpack.encode(["owner", "f1", 2, "from the future"])
    assert codec.decode_record(newer) == records.OwnerGranted("f1", 2)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x91" * 10_000,
        msgspec.msgpack.encode(["inc", ["no-such-command", 1]]),
        msgspec.msgpack.encode(["inc", ["attach", "not a number", "resp_1", 0, True]]),
        msgspec.msgpack.encode(["inc", ["attach", 1]]),
        msgspec.msgpack.encode({"incarnation": "inc"}),
        codec.encode_command("inc", commands.Hello(1, "f1")) + b"tail",
    ],
    ids=["empty", "reserved byte", "http", "deep nesting", "unknown tag", "wrong type", "too short", "a map", "tail"],
)
def test_garbage_is_refused(frame: bytes) -> None:
    with pytest.raises(codec.BadFrame):
        codec.decode_command(frame)
