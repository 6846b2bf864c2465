"""Models without weights: a real architecture's configuration, for vLLM's `--load-format dummy`.

The tokenizer is the demo model's, with made-up words up to the architecture's vocabulary: weights of chance say any
token, and one without text would be no event.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from engine_worker.engines.vllm.defaults import DEMO_MODEL

NAME: Final = "dummy"
CONTEXT_TOKENS: Final = 8192

_QWEN3: Final = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "dtype": "bfloat16",
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000,
    "use_cache": True,
    "vocab_size": 151_936,
}


def _qwen3(layers: int, hidden: int, intermediate: int, heads: int, **others: int) -> dict[str, Any]:
    return {
        **_QWEN3,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "tie_word_embeddings": hidden < 4096,
        **others,
    }


ARCHITECTURES: Final[Mapping[str, dict[str, Any]]] = {
    "tiny": _qwen3(2, 64, 128, 2, num_key_value_heads=1, head_dim=32),
    "qwen3-0.6b": _qwen3(28, 1024, 3072, 16),
    "qwen3-1.7b": _qwen3(28, 2048, 6144, 16),
    "qwen3-8b": _qwen3(36, 4096, 12288, 32),
    "qwen3-32b": _qwen3(64, 5120, 25600, 64),
}
"""The sizes that Qwen's own configurations have; `tiny` is for trying the script without a GPU."""


def write_model(directory: Path, architecture: str) -> list[str]:
    """Write configuration and tokenizer into an empty directory; returns the engine's flags for it."""
    config = ARCHITECTURES[architecture]
    (directory / "config.json").write_text(json.dumps(config, indent=1))
    tokenizer = json.loads((DEMO_MODEL / "tokenizer.json").read_text())
    (directory / "tokenizer.json").write_text(json.dumps(padded(tokenizer, config["vocab_size"])))
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DEMO_MODEL / name, directory)
    return [
        *("--model", str(directory)),
        *("--load-format", "dummy"),
        *("--served-model-name", NAME),
        *("--max-model-len", str(CONTEXT_TOKENS)),
        *("--tool-call-parser", "hermes"),
        *("--reasoning-parser", "qwen3"),
    ]


def padded(tokenizer: dict[str, Any], size: int) -> dict[str, Any]:
    """The same BPE tokenizer with so many tokens: to those it has, words that no merge makes. Changes its argument."""
    vocabulary = tokenizer["model"]["vocab"]
    taken = {*vocabulary.values(), *(token["id"] for token in tokenizer["added_tokens"])}
    # In a byte-level vocabulary "Ġ" is a space.
    vocabulary.update({f"Ġword{number}": number for number in range(size) if number not in taken})
    return tokenizer
