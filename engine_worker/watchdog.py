"""When an engine's silence means that it hangs. Pure.

Time is active time (`engine_worker.clock`), so that no engine is judged by a pause of the process that watches it.
"""

from engine_worker.engines.interface import EngineLoad


class EngineWatch:
    """Says when an engine hangs: it has work, and for `hang_after_s` seconds it gave no sign of life.

    An engine that has work and does not step need not hang: its requests may wait for a grammar, or for room. But then
    it answers, which is a sign of life as well; only a single step that takes longer would be mistaken for a hang.
    """

    def __init__(self, hang_after_s: float) -> None:
        self._hang_after_s = hang_after_s
        self._signs: int | None = None
        self._since = float("-inf")

    def look(self, load: EngineLoad, now: float) -> str | None:
        """To be called with each tick: what was seen of a hang, in words, or None while there is none."""
        works = load.running + load.waiting > 0
        if not works or load.signs != self._signs:
            self._signs, self._since = load.signs, now
            return None
        if now - self._since < self._hang_after_s:
            return None
        return (
            f"it hangs: it has not taken a step for {now - self._since:.0f} s with {load.running} requests running and "
            f"{load.waiting} waiting, and does not answer"
        )
