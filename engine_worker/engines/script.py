"""What the scripted engine says: scripts, and the salted voice that speaks them. Knows nothing of when it is said.

What a script does not spell out (the words, how they are grouped into deltas, the exact moments) depends on a salt. So
an answer can't be had twice, and a recovery that runs a turn again instead of recovering it is seen.
"""

import itertools
import math
import random
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from protocol.records import Delta, ReasoningDelta, Step, TextDelta, ToolCallDelta

FIXED_TEXT = "This is the scripted engine. It says what its script says, and it was given none."

_VOCABULARY = "kelp rock wave tide foam salt sand gull reef crab moss wind rope hull mast sail knot deck".split()
_TABLE = 1024
"""Length of the salted tables; a turn starts somewhere in them and goes round."""
_HELD = 1 / 8
"""How often a step's text is held back and said with the next one's, as tokenizers and parsers do."""
_ROUNDING = 1e-3
"""So much of a step before its end counts as its end, for times are floats."""
_ARGUMENTS_CHUNK = 6
"""Characters of a tool call's arguments in one step."""


class ScriptedTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call: its name, and its arguments as JSON text."""

    name: str
    arguments: str = "{}"


class ScriptedRejection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The error with which a request is rejected; see `protocol.records.ErrorDetail`."""

    message: str = "The script says no."
    type: str = "invalid_request_error"
    code: str = "scripted"
    param: str | None = None


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a turn does; times are in seconds.

    It is rendered for `render_s`, or refused (`reject`). It waits `first_s`, then says `reasoning` steps of reasoning,
    `steps` of text (or `text`, a word a step), and its `tools`' calls, one step about every `interval_s` with
    `tokens_per_step` tokens; where it is `stamped`, each step says the time instead (see `stamp`), in so many
    characters. Before step number `silence_at` (half way, unless said) it is silent for `silence_s`.
    After so many steps there may be a fault. `die_after`: the engine reports its death; `exit_after`: the process
    exits; `hang_after`: the engine stands still, and gives no sign of life any more; `block_after`: the whole process
    stands still, as in a call that hangs. It strikes a resumed turn again only with `fault_again`.
    """

    render_s: float = 0.0
    reject: ScriptedRejection | None = None
    first_s: float = 0.0
    interval_s: float = 0.0
    silence_s: float = 0.0
    silence_at: int | None = None
    reasoning: int = 0
    steps: int | None = None
    text: str | None = None
    tokens_per_step: int = 1
    stamped: int = 0
    tools: tuple[ScriptedTool, ...] = ()
    finish: Literal["stop", "length", "error"] = "stop"
    die_after: int | None = None
    exit_after: int | None = None
    hang_after: int | None = None
    block_after: int | None = None
    fault_again: bool = False

    @property
    def silence_before(self) -> int:
        """The number of the step, from 0, that comes after the silence."""
        if self.silence_at is not None:
            return self.silence_at
        text_steps = len(FIXED_TEXT.split()) if self.steps is None else self.steps
        return (self.reasoning + text_steps) // 2


def stamp(step: Step, length: int, now_ns: int) -> Step:
    """The step with the time as its text, so that whoever reads it can tell how old it is.

    `@`, the microseconds of the host's monotonic clock, and dots up to `length` characters.
    """
    return Step(step.token_ids, (TextDelta(f"@{now_ns // 1000}".ljust(length, ".")),))


class Voice:
    """Speaks scripts in words, groups and rhythm that only this salt gives.

    With `step_s` it speaks only at multiples of so many seconds, for all its turns together, as engines do.
    """

    def __init__(self, salt: str, step_s: float = 0.0) -> None:
        self._step_s = step_s
        chance = random.Random(salt)
        self._words = [chance.choice(_VOCABULARY) + " " for _ in range(_TABLE)]
        self._tokens = [chance.randrange(2**15) for _ in range(_TABLE)]
        self._held = [chance.random() < _HELD for _ in range(_TABLE)]
        self._rhythm = [chance.uniform(0.75, 1.25) for _ in range(_TABLE)]

    def interval_s(self, script: Script, number: int) -> float:
        """Seconds between step `number` and the one before."""
        return script.interval_s * self._rhythm[number % _TABLE]

    def step_at(self, due: float) -> float:
        """The moment at which a turn that is due then takes its step."""
        if not self._step_s:
            return due
        return (math.floor(due / self._step_s + _ROUNDING) + 1) * self._step_s

    def steps(self, script: Script, response_id: str, said: Sequence[Step] = ()) -> Iterator[Step]:
        """The steps of a turn that are left after those `said`, maybe by another voice; each response has its own."""
        start = zlib.crc32(response_id.encode())
        tokens = start + sum(len(step.token_ids) for step in said)
        for deltas in itertools.islice(self._deltas(script, start, said), len(said), None):
            ids = tuple(self._tokens[token % _TABLE] for token in range(tokens, tokens + script.tokens_per_step))
            tokens += len(ids)
            yield Step(ids, deltas)

    def _deltas(self, script: Script, start: int, said: Sequence[Step]) -> Iterator[tuple[Delta, ...]]:
        """The deltas of all steps; those of the steps `said` are of no account."""
        for number in range(start, start + script.reasoning):
            yield (ReasoningDelta(self._words[number % _TABLE]),)
        yield from self._text(script, start + script.reasoning, said)
        for index, tool in enumerate(script.tools):
            yield (ToolCallDelta(index, tool.name),)
            for at in range(0, len(tool.arguments), _ARGUMENTS_CHUNK):
                yield (ToolCallDelta(index, arguments=tool.arguments[at : at + _ARGUMENTS_CHUNK]),)

    def _text(self, script: Script, start: int, said: Sequence[Step]) -> Iterator[tuple[Delta, ...]]:
        text = script.text
        if text is None and script.steps is None and not script.tools:
            text = FIXED_TEXT
        given = None if text is None else re.findall(r"\s*\S+\s*", text)
        count = len(given) if given is not None else script.steps or 0
        words_said, steps_said = _words_said(given, said), len(said) - script.reasoning
        held = ""
        for number in range(count):
            if number >= words_said:  # What was held back at the cut is said now.
                held += given[number] if given is not None else self._words[(start + number) % _TABLE]
            if number < steps_said or (number + 1 < count and self._held[(start + number) % _TABLE]):
                yield ()
            else:
                yield (TextDelta(held),)
                held = ""


def _words_said(given: list[str] | None, said: Sequence[Step]) -> int:
    text = "".join(delta.text for step in said for delta in step.deltas if isinstance(delta, TextDelta))
    if given is None:
        return text.count(" ")
    return sum(end <= len(text) for end in itertools.accumulate(map(len, given)))
