"""Takes away the newlines that reasoning leaves at its edges: pure, and streaming.

Models write "<think>\\n...\\n</think>\\n\\n" around their reasoning; parsers take the tags and leave the newlines. Text
before which no reasoning came is not touched.
"""

from typing import Final

_NEWLINES: Final = "\r\n"


class NewlineTrimmer:
    """Trims one turn's deltas. What each method returns may be empty, and then there is nothing to show yet."""

    def __init__(self) -> None:
        self.in_reasoning = False
        """Whether no text has come since the last reasoning."""
        self._at_edge = False  # nothing but newlines since the segment began
        self._held = ""  # newlines that are inside the reasoning only if more of it follows

    def reasoning(self, text: str) -> str:
        """Trim the next piece of reasoning."""
        if not self.in_reasoning:
            self.in_reasoning, self._at_edge = True, True
        text = self._from_edge(self._held + text)
        shown = text.rstrip(_NEWLINES)
        self._held = text[len(shown) :]
        return shown

    def text(self, text: str) -> str:
        """Trim the next piece of the answer's text."""
        if self.in_reasoning:
            self.end_reasoning()
        return self._from_edge(text) if self._at_edge else text

    def end_reasoning(self) -> None:
        """What comes next is the answer's text."""
        self.in_reasoning, self._at_edge, self._held = False, True, ""

    def _from_edge(self, text: str) -> str:
        if self._at_edge:
            text = text.lstrip(_NEWLINES)
            self._at_edge = not text
        return text
