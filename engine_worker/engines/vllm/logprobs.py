"""Which tokens' log-probabilities belong to a piece of text: pure.

Text is held back (a stop string may have begun, or a tool call) and tokens are swallowed (tags, trimmed newlines), so
the tokens of an engine step are not those of the text that comes out of it.
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from protocol.records import TokenLogprob


class LogprobsOfText:
    """Waiting log-probabilities of one turn, in token order."""

    def __init__(self) -> None:
        self._waiting: list[TokenLogprob] = []

    def __len__(self) -> int:
        """How many tokens wait for their text."""
        return len(self._waiting)

    def add(self, tokens: Iterable[TokenLogprob]) -> None:
        """Tokens were sampled; their text may come later or never."""
        self._waiting.extend(tokens)

    def clear(self) -> None:
        """What was sampled so far became no text."""
        self._waiting.clear()

    def take(self, text: str) -> tuple[TokenLogprob, ...]:
        """Those of the tokens that make up `text`; the tokens before them are forgotten.

        Where no run of tokens spells it (bytes of one character in two tokens), all that wait are taken.
        """
        if not self._waiting:
            return ()
        spelled = "".join(token.token for token in self._waiting)
        edges = list(accumulate((len(token.token) for token in self._waiting), initial=0))
        for start, token in enumerate(self._waiting):
            if token.token and spelled.startswith(text, edges[start]):
                return self._cut(start, bisect_left(edges, edges[start] + len(text), start))
        return self._cut(0, len(self._waiting))

    def _cut(self, start: int, end: int) -> tuple[TokenLogprob, ...]:
        taken = tuple(self._waiting[start:end])
        del self._waiting[:end]
        return taken
