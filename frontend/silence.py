"""What a client that hears nothing is told: what is going on, and only what is true. Pure."""

from frontend.messages import Silence


def going_on(silence: Silence, doing: str, silent_s: float) -> str:
    """In words: `doing` is what the log says the response is at, of which nothing came for `silent_s` seconds."""
    if silence.away_s is not None:
        return f"recovering, the worker is away for {silence.away_s:.0f} s"
    if silence.loading and doing in ("queued", "generating"):
        return "recovering, the worker is loading the model"
    if silence.looking:
        return "recovering, looking for a worker that goes on"
    if doing != "queued":
        return f"{doing}, silent for {silent_s:.0f} s"
    return "reading the prompt" if silence.queue_position is None else f"queued, position {silence.queue_position}"
