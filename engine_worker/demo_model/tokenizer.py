"""The tokenizer and the chat template of the demo model.

Owns how text is cut. A value must have the same tokens in a question, in a tool list and in JSON, or a model this
small cannot copy it; so spaces stand alone before capitals, digits and identifiers, and after ":" or "=". Digits come
in pairs, and the punctuation of a tool call's JSON is one piece.
"""

from pathlib import Path
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from engine_worker.demo_model.dialogues import dialogue
from engine_worker.demo_model.messages import render

TEMPLATE_PATH = Path(__file__).with_name("chat_template.jinja")
END_OF_TURN = "<|im_end|>"
PAD = "<|endoftext|>"
SPECIAL = [PAD, "<|im_start|>", END_OF_TURN]  # never part of an answer's text
MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]  # one token each, and text for the parsers to find
POSITIONS_MAX = 4096

_PIECES = (
    r"(?<![:=]) [a-z]+(?![A-Za-z_=\d])"  # a lower-case word with its space
    r'|"[:,] [\["{]+|[{\[]+"|"[}\]]+'  # JSON punctuation
    r"|_?[A-Z]?[a-z]+|[A-Z]+|\p{L}+"  # the words of an identifier
    r"|\d{1,2}|\s|[^\s\p{L}\d]"
)
_SAMPLE_DIALOGUES = 6000
_NUMBERS = [f"{number:02d} {number}" for number in range(100)] * 60  # every pair of digits becomes a token


def build_tokenizer(seed: int, vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on sample dialogues, with the chat template attached."""
    rng = Random(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    texts = ["".join(span.text for span in render(dialogue(rng))) for _ in range(_SAMPLE_DIALOGUES)] + _NUMBERS
    for mark in SPECIAL + MARKS:
        texts = [text.replace(mark, "\n") for text in texts]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(MARKS),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in MARKS])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        model_max_length=POSITIONS_MAX,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = TEMPLATE_PATH.read_text(encoding="utf-8").removesuffix("\n")
    return wrapped
