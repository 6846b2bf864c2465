"""Makes a trained model wider and deeper without changing what it computes, so that training goes on from there.

Owns the growth of a Llama with tied embeddings (the idea is Net2Net's, Chen et al. 2016). Everything that writes to
the residual stream starts at zero in its new part, so the new part says nothing; everything that reads starts random,
so gradients reach it. Norms are rescaled, because a mean over more channels of which the new ones are zero is smaller.
"""

import torch
from transformers import LlamaForCausalLM

_WRITERS = ("o_proj", "down_proj")


@torch.no_grad()
def grow(small: LlamaForCausalLM, large: LlamaForCausalLM) -> None:
    """Put the small model into the large one, which is freshly made, of the same vocabulary and head size."""
    source = small.state_dict()
    layers = _places(small.config.num_hidden_layers, large.config.num_hidden_layers)
    shrink = (small.config.hidden_size / large.config.hidden_size) ** 0.5
    for name, target in large.named_parameters():
        origin = _origin(name, layers)
        writes = any(writer in name for writer in _WRITERS)
        if writes or "embed" in name:
            target.zero_()
        if origin is None:
            continue
        old = source[origin]
        if target.ndim == 1:
            target[: old.shape[0]] = old * shrink
        else:
            if not writes and "embed" not in name:
                target[: old.shape[0], : old.shape[1]] = 0
            target[: old.shape[0], : old.shape[1]] += old


def _places(small: int, large: int) -> dict[int, int]:
    """Which old layer each layer of the large model holds; the new ones go in the middle."""
    half = (small + 1) // 2
    return {**{layer: layer for layer in range(half)}, **{layer + large - small: layer for layer in range(half, small)}}


def _origin(name: str, layers: dict[int, int]) -> str | None:
    """The old name of a parameter; None for one of a new layer."""
    parts = name.split(".")
    if "layers" not in parts:
        return name
    place = parts.index("layers") + 1
    layer = layers.get(int(parts[place]))
    if layer is None:
        return None
    return ".".join([*parts[:place], str(layer), *parts[place + 1 :]])
