"""JSON answers: facts drawn from a text, sensible values where the text has none, and JSON asked for in words.

Under a JSON schema the engine's grammar writes the braces, the keys and most of the punctuation, and the prompt does
not show the schema. The examples are made the same way: the grammar's part is given and only the values are learned.
"""

import json
from collections.abc import Callable
from random import Random

from engine_worker.demo_model.messages import Json, Message, Span, assistant, user
from engine_worker.demo_model.talk import CAPITALS, UNKNOWN, arithmetic, small_talk, unknown_question
from engine_worker.demo_model.words import CITIES, COLORS, COMMON, DAYS, NAMES, SURNAMES, phrase, proper, word

_WHY = "The user wants JSON. I will fill in what the text says."
_OPENINGS = ["Extract the event information.", "Extract the event", "Extract the data.", "Answer in JSON.",
             "Return JSON.", "Give the answer as JSON.", "Extract the information as JSON."]  # fmt: skip

# What a property is filled with when the text says nothing about it.
_DEFAULTS: dict[str, list[Json]] = {
    "name": ["Alice"], "first_name": ["Alice"], "last_name": ["Smith"], "username": ["alice"],
    "age": [30], "city": ["Paris"], "country": ["France"], "location": ["Paris"], "street": ["Main Street"],
    "address": ["1 Main Street, Paris"], "zip": ["12345"], "email": ["alice@example.com"], "phone": ["555-0100"],
    "title": ["A short story"], "description": ["A small example."], "summary": ["A short summary."],
    "items": [["apple", "bread", "milk"]], "tags": [["small", "demo"]], "ingredients": [["flour", "milk", "eggs"]],
    "steps": [["Mix", "Bake", "Eat"]], "hobbies": [["reading", "music"]], "participants": [["Alice", "Bob"]],
    "color": ["blue"], "date": ["Friday"], "time": ["10:00"], "year": [2024], "price": [10], "quantity": [3],
    "count": [3], "id": [1], "number": [7], "score": [5], "rating": [5], "temperature": [20],
    "is_active": [True], "active": [True], "done": [True], "valid": [True], "available": [True], "ok": [True],
    "language": ["English"], "genre": ["mystery"], "author": ["Jane Smith"], "job": ["teacher"],
    "occupation": ["teacher"], "category": ["demo"], "status": ["ok"], "unit": ["celsius"], "reason": ["Because."],
    "explanation": ["I read the question and gave the answer."], "final_answer": ["42"],
}  # fmt: skip

_EVENTS = [
    "science fair", "birthday party", "wedding", "team meeting", "concert", "football game", "book club", "art show",
    "music festival", "farmers market", "cooking class", "movie night", "picnic", "conference", "chess club",
    "school play", "dinner", "hackathon",
]  # fmt: skip


class _GrammarText:
    """Compact JSON with the characters marked that a grammar leaves to the model."""

    def __init__(self) -> None:
        self._text = ""
        self._learned: list[bool] = []
        self._number_open = False  # only what follows a number ends it, so that too is the model's choice

    def spans(self) -> tuple[Span, ...]:
        """The text in runs that are all given or all learned."""
        runs: list[Span] = []
        start = 0
        for end in range(1, len(self._text) + 1):
            if end == len(self._text) or self._learned[end] != self._learned[start]:
                runs.append(Span(self._text[start:end], self._learned[start]))
                start = end
        return tuple(runs)

    def write(self, value: Json) -> None:
        """Append a JSON value."""
        match value:
            case dict():
                self._given("{")
                for place, (key, item) in enumerate(value.items()):
                    self._given(("," if place else "") + json.dumps(key) + ":")
                    self.write(item)
                self._given("}")
            case list():
                self._given("[")
                for place, item in enumerate(value):
                    if place:
                        self._chosen(",")
                    self.write(item)
                self._chosen("]")
            case str():
                self._given('"')
                self._chosen(json.dumps(value, ensure_ascii=False)[1:])
            case _:
                self._chosen(json.dumps(value))
                self._number_open = not isinstance(value, bool)

    def _given(self, text: str) -> None:
        self._text += text
        self._learned += [self._number_open] + [False] * (len(text) - 1)
        self._number_open = False

    def _chosen(self, text: str) -> None:
        self._text += text
        self._learned += [True] * len(text)
        self._number_open = False


def under_grammar(value: Json) -> tuple[Span, ...]:
    """The value as compact JSON, in spans of what the grammar gives and what is learned."""
    text = _GrammarText()
    text.write(value)
    return text.spans()


def structured_exchange(rng: Random) -> list[Message]:
    """A question and its answer in JSON."""
    if rng.random() < 0.25:
        return _asked_in_words(rng)
    question, known = rng.choice(_SUBJECTS)(rng)
    messages = []
    if rng.random() < 0.3:
        messages.append(Message(rng.choice(["system", "developer"]), rng.choice(_OPENINGS)))
    elif rng.random() < 0.5:
        question = " ".join(rng.sample([question, rng.choice(_OPENINGS)], 2))
    keys = list(known)
    if rng.random() < 0.4:
        rng.shuffle(keys)
    answer: dict[str, Json] = {key: known[key] for key in keys[: rng.choice([1, 2, 3, 3, 4, 4])]}
    if rng.random() < 0.15:
        key, values = rng.choice(list(_DEFAULTS.items()))
        answer.setdefault(key, rng.choice(values))
    if rng.random() < 0.1:
        answer = {rng.choice(["result", "data", "response", "event", "person"]): answer}
    return [*messages, user(question), assistant(under_grammar(answer), _WHY)]


def _asked_in_words(rng: Random) -> list[Message]:
    """The keys are in the question and no grammar helps, so the whole answer is learned."""
    keys = rng.sample(list(_DEFAULTS), rng.randint(1, 3))
    value: dict[str, Json] = {key: rng.choice(_DEFAULTS[key]) for key in keys}
    question = rng.choice(
        ["Give me a JSON object with {}.", "Reply in JSON with the keys {}.", "Return JSON with {}.",
         "Answer with a JSON object that has {}", "Write JSON with the keys {}"]
    ).format(" and ".join(keys))  # fmt: skip
    text = json.dumps(value, separators=(",", ":"))
    return [user(question), assistant(text, "The user wants a JSON object.")]


def _event(rng: Random) -> tuple[str, dict[str, Json]]:
    people = [proper(rng, NAMES, 0.75) for _ in range(rng.choice([1, 2, 2, 2, 3]))]
    event = rng.choice(_EVENTS) if rng.random() < 0.6 else f"{word(rng)} {rng.choice(_EVENTS).split()[-1]}"
    day, place = rng.choice(DAYS), proper(rng, CITIES, 0.7)
    who = people[0] if len(people) == 1 else ", ".join(people[:-1]) + " and " + people[-1]
    verb = "is" if len(people) == 1 else "are"
    article = "an" if event[0] in "aeiou" else "a"
    question = rng.choice(
        [f"{who} {verb} going to {article} {event} on {day}.", f"{who} {verb} going to the {event} on {day}.",
         f"{who} will meet at {article} {event} on {day}.", f"On {day} {who} {verb} going to {article} {event}."]
    )  # fmt: skip
    known: dict[str, Json] = {
        rng.choice(["name", "name", "title", "event", "event_name"]): event,
        rng.choice(["date", "date", "day", "when"]): day,
        rng.choice(["participants", "participants", "attendees", "people"]): [*people],
    }
    if rng.random() < 0.3:
        question = question[:-1] + f" in {place}."
        known[rng.choice(["location", "place", "city"])] = place
    return question, known


def _person(rng: Random) -> tuple[str, dict[str, Json]]:
    name = proper(rng, NAMES, 0.7)
    if rng.random() < 0.4:
        name += " " + (rng.choice(SURNAMES) if rng.random() < 0.7 else word(rng).capitalize())
    age, city = rng.randint(5, 95), proper(rng, CITIES, 0.7)
    job = rng.choice("teacher doctor student driver player writer singer farmer baker engineer".split())
    question = rng.choice(
        [f"{name} is {age} years old and lives in {city}.", f"{name} is {age} and lives in {city}.",
         f"My name is {name}, I am {age} years old and I live in {city}.", f"{name}, {age}, from {city}",
         f"{name} is a {age} year old from {city}."]
    )  # fmt: skip
    known: dict[str, Json] = {
        rng.choice(["name", "name", "full_name", "person"]): name,
        "age": age,
        rng.choice(["city", "city", "location", "home"]): city,
    }
    if rng.random() < 0.3:
        question += f" {name.split()[0]} works as a {job}."
        known[rng.choice(["job", "occupation", "profession"])] = job
    return question, known


def _purchase(rng: Random) -> tuple[str, dict[str, Json]]:
    product, quantity, price = word(rng), rng.randint(2, 20), rng.randint(1, 99)
    color = rng.choice(COLORS)
    question = rng.choice(
        [f"I bought {quantity} {product} for {price} dollars.", f"Order {quantity} {product} at {price} dollars.",
         f"Please send {quantity} {product}, {price} dollars each."]
    )  # fmt: skip
    known: dict[str, Json] = {
        rng.choice(["product", "item", "name"]): product,
        rng.choice(["quantity", "count", "amount"]): quantity,
        "price": price,
    }
    if rng.random() < 0.3:
        question += f" The color is {color}."
        known["color"] = color
    return question, known


def _capital(rng: Random) -> tuple[str, dict[str, Json]]:
    country, city = rng.choice(list(CAPITALS.items()))
    question = rng.choice(["What is the capital of {}?", "What's the capital of {}?", "Capital of {}"]).format(country)
    return question, {rng.choice(["city", "answer", "capital", "name"]): city, "country": country}


def _sum(rng: Random) -> tuple[str, dict[str, Json]]:
    asked = arithmetic(rng)
    number = asked.word.rstrip(".")
    key = rng.choice(["answer", "result", "final_answer", "value"])
    return asked.question, {key: number if rng.random() < 0.5 else int(number), "explanation": asked.sentence}


def _reply(rng: Random) -> tuple[str, dict[str, Json]]:
    key = rng.choice(["answer", "message", "reply", "response", "text", "content", "greeting", "output"])
    if rng.random() < 0.6:
        asked = small_talk(rng)
        return asked.question, {key: asked.sentence, "confidence": 1, "language": "English"}
    return unknown_question(rng), {key: UNKNOWN, "confidence": 0, "language": "English"}


def _sentiment(rng: Random) -> tuple[str, dict[str, Json]]:
    verdict, openings = rng.choice(
        [("positive", ["I love", "I really like", "What a great", "This is the best"]),
         ("negative", ["I hate", "I do not like", "What a terrible", "This is the worst"]),
         ("neutral", ["I have seen", "Yesterday I saw", "There is"])]
    )  # fmt: skip
    question = f"{rng.choice(openings)} {phrase(rng, 1, 3).rstrip('.!')}."
    return question, {rng.choice(["sentiment", "label", "category", "mood"]): verdict}


def _example(rng: Random) -> tuple[str, dict[str, Json]]:
    """Nothing in the text, so every property takes its usual value."""
    keys = rng.sample(list(_DEFAULTS), rng.randint(1, 5))
    noun = rng.choice(["person", "user", "product", "book", "recipe", "character", "city", rng.choice(COMMON)])
    question = rng.choice(
        ["Generate a {}.", "Give me a random {}", "Create a {} profile", "Make up a {}.", "Describe a {}"]
    ).format(noun)
    return question, {key: rng.choice(_DEFAULTS[key]) for key in keys}


def _given_value(rng: Random) -> tuple[str, dict[str, Json]]:
    """The text names the properties one by one."""
    pools: dict[str, Callable[[Random], Json]] = {
        "name": lambda r: proper(r, NAMES), "city": lambda r: proper(r, CITIES), "title": lambda r: proper(r, TITLES),
        "color": lambda r: r.choice(COLORS), "age": lambda r: r.randint(1, 99), "price": lambda r: r.randint(1, 999),
        "code": lambda r: r.randint(1000, 9999), "country": lambda r: proper(r, list(CAPITALS)),
        "product": word, "animal": word,
    }  # fmt: skip
    keys = rng.sample(list(pools), rng.randint(1, 3))
    known = {key: pools[key](rng) for key in keys}
    joined = " and ".join(f"the {key} is {value}" for key, value in known.items())
    return joined[0].upper() + joined[1:] + rng.choice(["", "."]), known


TITLES = [f"{first} {second}" for first in ("Blue", "Silent", "Last") for second in ("River", "House", "Journey")]

_SUBJECTS: list[Callable[[Random], tuple[str, dict[str, Json]]]] = [
    _event, _event, _event, _person, _person, _purchase, _capital, _sum, _reply, _sentiment, _example, _given_value,
]  # fmt: skip
