"""What a client that hears nothing is told: only what is true."""

from frontend.messages import Silence


def words_for(known: Silence, doing: str, silent_s: float) -> str:
    """What is going on with a response that is `doing` so by its log, which has had nothing new for `silent_s`."""
    if known.away_s is not None:
        return f"recovering, the worker is away for {known.away_s:.0f} s"
    if known.loading and doing in ("queued", "generating"):
        return "recovering, the worker is loading the model"
    if known.looking:
        return "recovering, looking for a worker that goes on"
    if doing != "queued":
        return f"{doing}, silent for {silent_s:.0f} s"
    return "reading the prompt" if known.queue_position is None else f"queued, position {known.queue_position}"
