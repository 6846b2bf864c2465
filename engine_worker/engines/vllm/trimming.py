"""Takes away the newlines between a thought and the answer: pure, and streaming.

Models write "<think>\\n...\\n</think>\\n\\n" around their reasoning; parsers take the tags and leave newlines. Those
of the thought are the model's own, and shown as soon as they come; an answer does not begin with any. Text before which
no reasoning came is not touched.
"""

from typing import Final

_NEWLINES: Final = "\r\n"


class NewlineTrimmer:
    """Trims one turn's text. `in_reasoning`, to be set with every piece of reasoning: no text has come since."""

    def __init__(self) -> None:
        self.in_reasoning = False
        self._at_edge = False  # nothing but newlines since the reasoning ended

    def text(self, text: str) -> str:
        """Trim the next piece of the answer's text; where nothing is left of it, there is nothing to show yet."""
        if self.in_reasoning:
            self.end_reasoning()
        if self._at_edge:
            text = text.lstrip(_NEWLINES)
            self._at_edge = not text
        return text

    def end_reasoning(self) -> None:
        """What comes next is the answer's text."""
        self.in_reasoning, self._at_edge = False, True
