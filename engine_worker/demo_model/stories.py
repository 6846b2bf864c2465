"""Long stories, short ones and haiku: the texts that show a long stream.

A long story is a walk through numbered places. The model learns the walk by heart, so a story of any length stays
readable and ends where it said it would.
"""

_STATIONS = [
    ("sea", "gull", "lamp"), ("forest", "deer", "map"), ("market", "cat", "coin"), ("old mill", "mouse", "wheel"),
    ("lake", "swan", "ring"), ("hill", "goat", "bell"), ("station", "dog", "ticket"), ("garden", "bee", "rose"),
    ("cave", "bat", "torch"), ("harbour", "seal", "rope"), ("tower", "owl", "clock"), ("desert", "fox", "bottle"),
    ("school", "parrot", "book"), ("valley", "horse", "saddle"), ("bridge", "otter", "basket"),
    ("island", "turtle", "shell"), ("library", "spider", "pen"), ("field", "rabbit", "hat"),
    ("castle", "raven", "crown"), ("village", "hen", "egg"), ("river", "beaver", "hammer"),
    ("beach", "crab", "mirror"), ("theatre", "monkey", "drum"), ("bakery", "sparrow", "cake"),
    ("swamp", "frog", "boot"), ("glacier", "bear", "compass"), ("temple", "snake", "candle"),
    ("farm", "pig", "bucket"), ("museum", "moth", "painting"), ("meadow", "lark", "flute"),
]  # fmt: skip

PARTS_MAX = len(_STATIONS)
TOKENS_PER_PART = 60

_SCENES = [
    "Mira walked to the {place} early in the morning. There she met a {animal}, and the {animal} told her that the"
    " {thing} had been lost for many years. They looked for it until the sun went down, and then they rested and"
    " talked about {topic}.",
    "The road went on to the {place}, where the wind was cold and the light was low. A {animal} was waiting there with"
    " a {thing} and asked for help. Mira listened for a long time, because every word was about {topic}, and she wrote"
    " it all down.",
    "When the rain was over, Mira came to the {place} and heard a song. It was a {animal} that sang about {topic}, and"
    " nobody else was there. She left the {thing} as a gift, said goodbye, and slept under the stars.",
    "At the {place} a door stood open. Behind it Mira found a {thing} on a table, and a {animal} that would not let"
    " her pass. She told it what she knew about {topic}, and in the end the {animal} laughed and let her go.",
    "It was noon when Mira reached the {place}. She was hungry, and a kind {animal} shared its bread with her. For the"
    " bread she gave the {thing}, and they both wondered what the others would say about {topic}.",
]


def long_story(topic: str, parts: int) -> str:
    """A story in so many parts, each of about TOKENS_PER_PART tokens; the last words are "The end."."""
    paragraphs = [f"Here is a story about {topic} in {parts} parts."]
    for number, (place, animal, thing) in enumerate(_STATIONS[:parts]):
        scene = _SCENES[number % len(_SCENES)].format(place=place, animal=animal, thing=thing, topic=topic)
        paragraphs.append(f"Part {number + 1}: {scene}")
    return "\n\n".join([*paragraphs, "The end."])


def short_story(topic: str) -> str:
    """Three sentences."""
    return (
        f"Once upon a time a child dreamed about {topic}. In the dream they walked over the hills until the moon came"
        " up. Then the night was quiet, and everybody slept well."
    )


def haiku(topic: str) -> str:
    """Three lines; the syllables are right for a topic of three."""
    return f"Thinking of {topic},\nthe evening light grows softer,\nand the wind is still."
