"""Exchanges of plain text: a question of the user and the one right answer to it.

Owns what is asked and answered: talk, counting, copying, remembering, short and long texts. A `Situation` is what the
conversation has established, so that an answer can follow from an earlier turn or from the instructions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from engine_worker.demo_model import stories, talk
from engine_worker.demo_model.messages import Message, Tool, assistant, user
from engine_worker.demo_model.tools import ToolKind
from engine_worker.demo_model.words import CITIES, COLORS, COMMON, NAMES, TOPICS, made_up, phrase, proper

PIRATE = "Arr, matey! "


@dataclass
class Situation:
    """What the conversation has established so far; exchanges read it and add to it."""

    offered: list[tuple[Tool, ToolKind | None]] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    name: str = ""  # the name the instructions gave the assistant
    manner: str = "plain"  # how the instructions want it to speak: plain, pirate or word

    def style(self, sentence: str, word: str = "") -> str:
        """The answer in the manner asked for."""
        match self.manner:
            case "pirate":
                return PIRATE + sentence
            case "word" if word:
                return word
            case _:
                return sentence


Exchange = Callable[[Random, Situation], list[Message]]


def small_talk(rng: Random, situation: Situation) -> list[Message]:
    answer = talk.small_talk(rng)
    if situation.offered and answer.question[-2:].strip("?.").isdigit():
        answer = talk.capital(rng)  # a sum may be what a tool is for
    messages = [user(vary(rng, answer.question))]
    if rng.random() < 0.04:
        messages.insert(0, user("Hello"))
    why = f'The user says "{answer.question}" I will answer that.'
    return [*messages, assistant(situation.style(answer.sentence, answer.word), why)]


def unknown(rng: Random, situation: Situation) -> list[Message]:
    question = talk.unknown_question(rng)
    why = "I do not know much about this. I will give a short and polite answer."
    return [user(vary(rng, question)), assistant(situation.style(talk.UNKNOWN, "Maybe."), why)]


def count(rng: Random, _: Situation) -> list[Message]:
    last = rng.randint(1, rng.choice([30, 30, 30, 110, 110, 260]))
    if rng.random() < 0.35:
        last = rng.choice([5, 10, 20, 50, 100, 200])
    first = 1 if rng.random() < 0.8 else rng.randint(max(1, last - 60), last)
    forms = ["Count from {} to {}.", "Count from {} to {}", "Please count from {} to {}."]
    forms.append("Can you count from {} to {}?")
    if first == 1:
        forms += ["Count to {1}.", "Count to {1}", "Please count to {1}."]
    question, separator = rng.choice(forms).format(first, last), ", "
    if rng.random() < 0.12:
        question = question.rstrip(".?") + rng.choice([", one number per line.", ", one per line."])
        separator = "\n"
    text = separator.join(map(str, range(first, last + 1)))
    return [user(vary(rng, question)), assistant(text, f"The user wants me to count from {first} to {last}.")]


def copy(rng: Random, _: Situation) -> list[Message]:
    text = phrase(rng)
    if rng.random() < 0.7:
        order = rng.choice(
            ["Repeat after me: ", "Say exactly: ", "Please repeat: ", "Repeat this: ", "Echo: ", "Repeat exactly: ",
             "Reply with exactly: ", "Repeat: ", "Say: ", "Copy this: "]
        )  # fmt: skip
        question = order + text
    else:
        quoted = rng.choice(
            ['Say "{}"', 'Repeat "{}"', 'Reply with "{}".', 'Say exactly "{}"', 'Write "{}".', "Say '{}'"]
        )
        question = quoted.format(text)
    return [user(question), assistant(text, "The user wants me to repeat the words exactly.")]


def tell(rng: Random, situation: Situation) -> list[Message]:
    key = rng.choice(["name"] * 4 + ["favorite color", "favorite animal", "dog", "city", "code", "number"])
    match key:
        case "code" | "number":
            value = str(rng.randint(10, 9999)) if rng.random() < 0.7 else made_up(rng).upper() + str(rng.randint(1, 99))
        case "favorite color":
            value = rng.choice(COLORS) if rng.random() < 0.6 else made_up(rng)
        case "favorite animal":
            value = rng.choice(COMMON)
        case _:
            value = proper(rng, CITIES if key == "city" else NAMES)
    situation.facts[key] = value
    forms = ["My {} is {}.", "Hello, my {} is {}.", "Please remember that my {} is {}.", "My {} is {}"]
    if key == "name":
        forms += ["I am {1}.", "Hi, I'm {1}!", "Call me {1}.", "I'm {1}"]
    answer = f"Nice to meet you, {value}!" if key == "name" else f"I will remember that your {key} is {value}."
    why = f"The user says that the {key} is {value}. I will remember it."
    return [user(vary(rng, rng.choice(forms).format(key, value))), assistant(answer, why)]


def recall(rng: Random, situation: Situation) -> list[Message]:
    key = rng.choice(list(situation.facts) * 6 + ["name"]) if situation.facts else "name"
    value = situation.facts.get(key)
    forms = ["What is my {}?", "What's my {}?", "Do you remember my {}?", "Tell me my {}.", "What was my {}?"]
    question = rng.choice([*forms, "Who am I?"] if key == "name" else forms).format(key)
    answer = f"Your {key} is {value}." if value else f"You have not told me your {key} yet."
    why = f"The user asks for the {key}." + (f" It is {value}." if value else " I do not know it.")
    return [user(vary(rng, question)), assistant(answer, why)]


def own_name(rng: Random, situation: Situation) -> list[Message]:
    name = situation.name or "Holdfast"
    question = rng.choice(["What is your name?", "What's your name?", "How are you called?", "Tell me your name."])
    return [user(vary(rng, question)), assistant(f"My name is {name}.", f"The user asks for my name. It is {name}.")]


def short_text(rng: Random, _: Situation) -> list[Message]:
    topic = rng.choice(TOPICS) if rng.random() < 0.4 else phrase(rng, 1, 3).rstrip(".!,")
    if rng.random() < 0.6:
        form = rng.choice(["Write a haiku about {}.", "Write a poem about {}", "Write a short poem about {}."])
        return [user(form.format(topic)), assistant(stories.haiku(topic), f"The user wants a poem about {topic}.")]
    form = rng.choice(
        ["Tell me a short story about {}.", "Write a one-sentence bedtime story about {}.",
         "Write a short story about {}", "Tell me a three sentence bedtime story about {}.",
         "Write a bedtime story about {}."]
    )  # fmt: skip
    why = f"The user wants a short story about {topic}."
    return [user(form.format(topic)), assistant(stories.short_story(topic), why)]


_LENGTHS = [100, 150, 200, 250, 300, 400, 500, 600, 700, 800, 900, 1000, 1200]
_WORDS_PER_PART = 50
_LONG, _VERY_LONG, _USUAL = 18, 26, 6


def story(rng: Random, _: Situation) -> list[Message]:
    topic = rng.choice(TOPICS) if rng.random() < 0.5 else phrase(rng, 1, 2).rstrip(".!,")
    words = rng.choice(_LENGTHS)
    counted = max(2, min(_VERY_LONG, round(words / _WORDS_PER_PART)))
    form, parts = rng.choice(
        [
            ("Write about {words} words about {topic}.", counted),
            ("Write {words} words about {topic}", counted),
            ("Write a {words} word story about {topic}.", counted),
            ("Write an essay of {words} words about {topic}.", counted),
            ("Write a story of about {words} words.", counted),
            ("Write a long story.", _LONG),
            ("Write a long story about {topic}.", _LONG),
            ("Tell me a long story about {topic}.", _LONG),
            ("Tell me a long story", _LONG),
            ("Write a long text about {topic}", _LONG),
            ("Write a long essay about {topic}.", _LONG),
            ("Tell me a very long story", _VERY_LONG),
            ("Tell me a very long story about {topic}.", _VERY_LONG),
            ("Tell me a story about {topic}.", _USUAL),
            ("Write a story about {topic}", _USUAL),
            ("Tell me a story", _USUAL),
        ]
    )
    if "{topic}" not in form:
        topic = "a journey"
    why = f"The user wants a story about {topic}. I will write {parts} parts."
    question = form.format(words=words, topic=topic)
    return [user(vary(rng, question)), assistant(stories.long_story(topic, parts), why)]


def vary(rng: Random, text: str) -> str:
    """The same question as people type it: now and then without the capital or the full stop."""
    kind = rng.random()
    if kind < 0.8:
        return text
    return text[0].lower() + text[1:] if kind < 0.9 else text.rstrip("?.!")
