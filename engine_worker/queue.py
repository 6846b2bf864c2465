"""The requests that wait for the first step of their answer: how many there may be, and how fast they leave.

Theory of operation
    A request is in the queue from the moment on that it is accepted until its first step, or its end: while its prompt
    is rendered, waits in the engine, and is read. So its bounds are bounds on the time to the first token too: that is,
    in the mean, the number of those in the queue divided by the rate at which they leave (Little's law).

    begin ──► rendered ──► leave            Its tokens are an estimate until the prompt is rendered, and exact then.
      └─ give_up ──┴────────► gone          What comes back from a journal enters as rendered, whatever the bounds say.
"""

import math
from collections import defaultdict
from typing import Final

import msgspec

from engine_worker.engines.interface import TurnPrepared
from engine_worker.state import Peer, Response
from protocol.reports import QueuePlace

_MEMORY_S: Final = 10.0
"""How far back the rate is looked at: what was so long ago counts for 1/e."""


class _Place(msgspec.Struct, frozen=True, gc=False):
    """What a rendered request asks of the engine; a lower `priority` comes earlier."""

    tokens: int
    priority: int


class Queue:
    """Past `requests_max`, or `tokens_max` of their prompts, no more are to be accepted. A prompt that is longer alone
    is accepted when nothing else waits. Times are in seconds."""

    def __init__(self, requests_max: int, tokens_max: int, retry_after_max_s: int) -> None:
        self._requests_max = requests_max
        self._tokens_max = tokens_max
        self._retry_after_max_s = retry_after_max_s
        self._rendering: dict[str, int] = {}
        """Prompt tokens by response id, as estimated."""
        self._places: dict[Response, _Place] = {}
        """Those that are rendered, in the order in which they were."""
        self._tokens = 0
        self._rate = _Rate()

    def __repr__(self) -> str:
        return f"<Queue: {len(self)} requests, {self._tokens} tokens>"

    def __len__(self) -> int:
        return len(self._rendering) + len(self._places)

    def __contains__(self, response: Response) -> bool:
        return response in self._places

    def has_room(self, tokens: int) -> bool:
        """Whether a request with so many prompt tokens may be accepted."""
        return not self or (len(self) < self._requests_max and self._tokens + tokens <= self._tokens_max)

    def begin(self, response_id: str, tokens: int, now: float) -> None:
        """A request is accepted, with so many prompt tokens as far as one can tell."""
        self._rate.look(now, busy=bool(self))
        self._rendering[response_id] = tokens
        self._tokens += tokens

    def give_up(self, response_id: str, now: float) -> None:
        """The engine does not take what was begun."""
        self._rate.look(now, busy=bool(self))
        self._tokens -= self._rendering.pop(response_id)
        self._rate.left()

    def rendered(self, response: Response, prepared: TurnPrepared | None, now: float) -> None:
        """The engine has taken it: begun here, or come from a journal."""
        self._rate.look(now, busy=bool(self))
        estimate = self._rendering.pop(response.response_id, 0)
        place = _Place(estimate, 0) if prepared is None else _Place(len(prepared.prompt_token_ids), prepared.priority)
        self._places[response] = place
        self._tokens += place.tokens - estimate

    def leave(self, response: Response, now: float) -> None:
        """Its first step is there, or its end; if it waits at all."""
        if response in self._places:
            self._rate.look(now, busy=True)
            self._tokens -= self._places.pop(response).tokens
            self._rate.left()

    def order(self) -> list[Response]:
        """Those that are rendered, in the order in which the engine begins them."""
        return sorted(self._places, key=lambda response: self._places[response].priority)

    def places(self, waiting: int) -> dict[Peer, list[QueuePlace]]:
        """For each frontend, how far its readers' responses are from starting, when so many wait in the engine.

        The engine says how many requests wait, not which. Those without a step yet are in its queue in our order, the
        first of them perhaps being prefilled already; those it preempted (waiting, with steps) go before them all.
        """
        places: dict[Peer, list[QueuePlace]] = defaultdict(list)
        for position, response in enumerate(self.order(), waiting - len(self._places) + 1):
            if position > 0:
                for reader in response.readers:
                    places[reader.peer].append(QueuePlace(reader.number, position))
        return places

    def retry_after_s(self, now: float) -> int:
        """When all that waits now will have left: whole seconds, within the bounds."""
        return max(1, min(math.ceil(self._drained_in_s(now)), self._retry_after_max_s))

    def full_for_s(self, now: float, at_least_s: float) -> int:
        """The same where there is no room, and it would take longer than `at_least_s`; otherwise 0."""
        if self.has_room(1) or self._drained_in_s(now) <= at_least_s:
            return 0
        return self.retry_after_s(now)

    def _drained_in_s(self, now: float) -> float:
        self._rate.look(now, busy=bool(self))
        return self._rate.time_for_s(len(self))


class _Rate:
    """How fast requests leave: an exponentially weighted mean over the time in which some waited, for nothing can be
    seen in the rest."""

    def __init__(self) -> None:
        self._left = 0.0
        self._busy_s = 0.0
        self._looked_at = 0.0

    def look(self, now: float, *, busy: bool) -> None:
        """Time has passed; `busy` is whether some waited in it."""
        if busy:
            kept = math.exp((self._looked_at - now) / _MEMORY_S)
            self._left *= kept
            self._busy_s = self._busy_s * kept + _MEMORY_S * (1 - kept)
        self._looked_at = now

    def left(self) -> None:
        """One has left."""
        self._left += 1

    def time_for_s(self, requests: int) -> float:
        """How long so many take to leave; where none was ever seen to, as long again as they were watched."""
        return requests * self._busy_s / self._left if self._left else self._busy_s
