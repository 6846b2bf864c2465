"""Renders on the event loop what is short, where vLLM's own server goes through a thread twice and through some tasks.

For a short request the hops cost more than the work that they take off the loop: the thread and the loop wait for each
other's GIL, up to 5 ms at a time (`sys.getswitchinterval`).
"""

import copy
from typing import Any

from vllm.renderers import BaseRenderer
from vllm.renderers.online_renderer import OnlineRenderer


class InlineRenderer:
    """A renderer whose `render_chat_async` is done when it returns; all else is the `renderer`'s own."""

    def __init__(self, renderer: BaseRenderer[Any]) -> None:
        self._renderer = renderer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._renderer, name)

    async def render_chat_async(self, *args: Any, **kwargs: Any) -> Any:
        """vLLM's `render_chat`, the same steps without a thread."""
        return self._renderer.render_chat(*args, **kwargs)


def inline(online: OnlineRenderer) -> OnlineRenderer:
    """The same renderer of requests, which renders at once: for what `request.is_short`."""
    rendering = copy.copy(online)
    rendering.renderer = InlineRenderer(online.renderer)
    return rendering
