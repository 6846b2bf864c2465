"""What the demo model is measured on: prompts whose names, places and words are not in the training pools.

Owns the behaviours and what counts as right in each. A case is one prompt with a check on the answer.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

Chat = list[dict[str, Any]]

CITIES = [
    *"Helsinki Stockholm Lisbon Budapest Krakow Tallinn Montreal Vancouver Melbourne Santiago Osaka Shanghai".split(),
    *"Istanbul Marrakesh Reykjavik Baltimore".split(),
    *["Cape Town", "San Antonio", "New Orleans", "Fort Worth", "St Louis", "Ann Arbor"],
]
NAMES = (
    "Walter Quentin Zelda Ingrid Bjorn Leopold Priya Katarina Dmitri Fatima Gwen Theo Ximena Ravi Olga Hannah"
).split()
WORDS = (
    "scarlet elephant juggles beyond silver glaciers during gentle giants wooden lantern forgets ancient puzzle velvet"
    " submarine crosses fiercely zebra tango blanket whisper kettle orchid"
).split()
QUESTIONS = [
    "Who won the world cup in 1998?", "Explain quantum entanglement.", "What's your opinion on pineapple pizza?",
    "How do airplanes fly?", "Write a python function that sorts a list.", "Recommend me a good book please",
    "My laptop is broken, what should I do?", "Tell me about the roman empire", "asdf qwerty", "I feel sad today.",
    "Can you book me a flight?", "How tall is Mount Everest?", "What is machine learning?",
    "Give me three tips for better sleep.", "Do cats dream?", "Summarize the plot of Hamlet in two sentences.",
    "Was ist die Hauptstadt von Österreich?", "Is water wet?", "hello how are you doing today my friend",
    "Why do leaves fall in autumn?",
]  # fmt: skip
# What the documentation and the tests of the server ask.
EVERYDAY = [
    "Test streaming", "Hello", "Hello!", "Say hello", "Say hello in three words", "Say hello in exactly 3 words.",
    "Write a haiku about the sea", "Tell me a joke", "What is the capital of France?", "What is 2 + 2?", "Who are you?",
    "Write a one-sentence bedtime story about a unicorn.",
]  # fmt: skip
WEATHER_QUESTIONS = [
    "What's the weather like in {}?", "What is the weather in {} today?", "How is the weather in {}?",
    "Can you tell me what the weather is in {}?",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One prompt. `is_right` takes the answer's text and its length in tokens; a `schema` constrains the answer."""

    messages: Chat
    is_right: Callable[[str, int], bool]
    tools: Chat | None = None
    schema: dict[str, Any] | None = None
    thinking: bool = False
    tokens_max: int = 160


def user(text: str) -> dict[str, Any]:
    """A message of the user."""
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    """A message of the assistant."""
    return {"role": "assistant", "content": text}


def tool(name: str, description: str, *arguments: str) -> dict[str, Any]:
    """A function tool whose arguments are all required strings."""
    properties = {argument: {"type": "string"} for argument in arguments}
    parameters = {"type": "object", "properties": properties, "required": [*arguments]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def calls_in(text: str) -> Any:
    """The tool calls in an answer, parsed; text that is no JSON is no call."""
    try:
        return [json.loads(call) for call in re.findall(r"<tool_call>\n(.*?)\n</tool_call>", text)]
    except ValueError:
        return None


def _weather_tool(rng: Random) -> dict[str, Any]:
    name, description = rng.choice(
        [("get_weather", "Get current temperature for a given location."), ("weather", "Weather for a city"),
         ("lookup_weather", "Looks up the weather."), ("fetch_weather", "Fetch weather data for a place"),
         ("get_current_weather", "Get the current weather in a given location")]
    )  # fmt: skip
    return tool(name, description, rng.choice(["location", "city"]))


def _other_tool(rng: Random) -> dict[str, Any]:
    return tool(
        *rng.choice(
            [("send_email", "Sends an email to a person", "to"),
             ("get_stock_price", "Get the price of a stock", "symbol"),
             ("create_ticket", "Creates a ticket", "title"), ("translate_text", "Translates a text", "text"),
             ("send_email", "Send an email to a given recipient with a subject and message.", "to", "subject", "body"),
             ("search_knowledge_base", "Query a knowledge base to retrieve relevant info on a topic.", "query"),
             ("roll_dice", "Rolls a die with so many sides", "sides"), ("unlock_door", "Unlocks a door", "room")]
        )
    )  # fmt: skip


def _is_reply(text: str, tokens: int) -> bool:
    return tokens <= 60 and re.match(r"^[A-Z0-9].*[.!?]$", text, re.DOTALL) is not None and "<" not in text


def _talk(rng: Random) -> Case:
    return Case([user(rng.choice(QUESTIONS))], _is_reply)


def _everyday(rng: Random) -> Case:
    question = rng.choice(EVERYDAY)
    hello, fact = "three words" in question or "3 words" in question, {"France": "Paris", "2 + 2": "4"}
    wanted = next((answer for key, answer in fact.items() if key in question), "")

    def is_right(text: str, tokens: int) -> bool:
        return _is_reply(text, tokens) and wanted in text and (not hello or len(text.split()) == 3)

    return Case([user(question)], is_right)


def _counting(rng: Random, last: int) -> Case:
    question = rng.choice(["Count from 1 to {}.", "Count from 1 to {}", "Please count from 1 to {}."]).format(last)
    wanted = [*range(1, last + 1)]
    return Case([user(question)], lambda text, _: [int(n) for n in re.findall(r"\d+", text)] == wanted, tokens_max=900)


def _count(rng: Random) -> Case:
    return _counting(rng, rng.randint(1, 50))


def _count_far(rng: Random) -> Case:
    return _counting(rng, rng.choice([50, 100, 150, 200, rng.randint(51, 200)]))


def _weather(rng: Random, cities: int = 1, others: int | None = None) -> Case:
    weather = _weather_tool(rng)
    tools = [weather, *(_other_tool(rng) for _ in range(rng.choice([0, 0, 1, 2]) if others is None else others))]
    rng.shuffle(tools)
    function = weather["function"]
    places = rng.sample(CITIES, cities)
    question = rng.choice(WEATHER_QUESTIONS[: 4 if cities == 1 else 3]).format(" and ".join(places))
    key = function["parameters"]["required"][0]
    wanted = [{"name": function["name"], "arguments": {key: place}} for place in places]
    return Case([user(question)], lambda text, _: calls_in(text) == wanted, tools)


def _weather_beside_others(rng: Random) -> Case:
    return _weather(rng, others=rng.randint(1, 3))


def _two_cities(rng: Random) -> Case:
    return _weather(rng, cities=2)


def _unrelated(rng: Random) -> Case:
    question = rng.choice([*QUESTIONS, "Hello!", "Count from 1 to 5.", "Tell me a joke", "Who are you?"])
    tools = [_weather_tool(rng), *(_other_tool(rng) for _ in range(rng.randint(0, 1)))]
    return Case([user(question)], lambda text, tokens: "<tool_call>" not in text and tokens <= 60, tools)


def _named_call(rng: Random) -> Case:
    name = f"{rng.choice(WORDS)}_{rng.choice(WORDS)}"
    key = rng.choice(["value", "path", "key", "amount", "target"])
    value = rng.choice([*CITIES, *NAMES, *WORDS, "42", "137"])
    tools = rng.sample([tool(name, "A tool", key), _weather_tool(rng)], 2)
    wanted = [{"name": name, "arguments": {key: value}}]
    return Case([user(f"Call the tool {name} with {key}={value}")], lambda text, _: calls_in(text) == wanted, tools)


def _tool_result(rng: Random) -> Case:
    city, degrees, sky = rng.choice(CITIES), rng.randint(-5, 35), rng.choice(["sunny", "foggy", "stormy"])
    result = rng.choice(
        [f"{degrees} degrees and {sky}", json.dumps({"temperature": degrees, "condition": sky}), f"{degrees}°C",
         f"The weather in {city} is mild"]
    )  # fmt: skip
    weather = _weather_tool(rng)
    function = weather["function"]
    arguments = {function["parameters"]["required"][0]: city}
    call = {"id": "1", "type": "function", "function": {"name": function["name"], "arguments": arguments}}
    messages = [
        user(f"What's the weather like in {city}?"),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": result},
    ]
    return Case(messages, lambda text, tokens: result in text and tokens < 90, [weather])


def _recall(rng: Random) -> Case:
    key, value = rng.choice(
        [("name", rng.choice(NAMES)), ("name", rng.choice(NAMES)), ("code", str(rng.randint(1000, 9999))),
         ("favorite color", rng.choice(["turquoise", "teal", "crimson"]))]
    )  # fmt: skip
    between: Chat = rng.choice(
        [[], [], [user("Count from 1 to 3."), assistant("1, 2, 3")],
         [user("Tell me a joke"), assistant("Why did the computer go to the doctor? Because it had a virus.")]]
    )  # fmt: skip
    told = f"Nice to meet you, {value}!" if key == "name" else "I will remember that."
    messages = [user(f"My {key} is {value}."), assistant(told), *between, user(f"What is my {key}?")]
    return Case(messages, lambda text, tokens: value in text and tokens < 40)


def _copy(rng: Random) -> Case:
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 12)))
    question = rng.choice(["Repeat after me: ", "Say exactly: "]) + text
    return Case([user(question)], lambda answer, _: answer.strip() == text)


def _think(rng: Random) -> Case:
    case = rng.choice([_talk, _everyday, _count, _weather, _copy])(rng)

    def is_right(text: str, _: int) -> bool:
        parts = re.match(r"^<think>\n(.+?)\n</think>\n\n(.*)$", text, re.DOTALL)
        return parts is not None and case.is_right(parts[2], 1)

    return Case(case.messages, is_right, case.tools, thinking=True, tokens_max=400)


def _story(rng: Random) -> Case:
    topic = rng.choice([*WORDS, "a lighthouse", "the sea", "dragons"])
    question = rng.choice(
        ["Write a long story.", f"Write a long story about {topic}.", f"Tell me a long story about {topic}.",
         f"Write about {rng.choice([300, 500, 800])} words about {topic}."]
    )  # fmt: skip
    return Case([user(question)], lambda text, n: 300 <= n <= 1600 and text.endswith("The end."), tokens_max=1700)


def _object(**properties: str) -> dict[str, Any]:
    kinds: dict[str, Any] = {"list": {"type": "array", "items": {"type": "string"}}}
    shape = {key: kinds.get(kind, {"type": kind}) for key, kind in properties.items()}
    return {"type": "object", "properties": shape, "required": [*properties], "additionalProperties": False}


def _event_in_schema(rng: Random) -> Case:
    people, day = rng.sample([*NAMES, "Alice", "Bob"], 2), rng.choice(["Friday", "Monday", "Sunday"])
    event = rng.choice(["science fair", "birthday party", "board game night"])
    wanted = {"name": event, "date": day, "participants": people}
    messages = [
        {"role": "system", "content": "Extract the event information."},
        user(f"{people[0]} and {people[1]} are going to a {event} on {day}."),
    ]
    schema = _object(name="string", date="string", participants="list")
    return Case(messages, lambda text, _: bool(json.loads(text) == wanted), schema=schema)


def _person_in_schema(rng: Random) -> Case:
    wanted = {"name": rng.choice(NAMES), "age": rng.randint(10, 80), "city": rng.choice(CITIES)}
    question = "{name} is {age} years old and lives in {city}.".format(**wanted)
    schema = _object(name="string", age="integer", city="string")
    return Case([user(question)], lambda text, _: bool(json.loads(text) == wanted), schema=schema)


def _answer_in_schema(rng: Random) -> Case:
    question, key, wanted = rng.choice(
        [("What is the capital of France?", "city", "Paris"), ("What is the capital of Japan?", "answer", "Tokyo"),
         ("What is 2 + 2?", "answer", "4"), ("What is 3 + 4?", "result", "7")]
    )  # fmt: skip
    return Case([user(question)], lambda text, _: wanted in json.loads(text)[key], schema=_object(**{key: "string"}))


def _persona(rng: Random) -> Case:
    name = rng.choice(NAMES)
    system = {"role": "system", "content": f"You are {name}."}
    return Case([system, user("What is your name?")], lambda text, tokens: name in text and tokens < 30)


def _one_word(_: Random) -> Case:
    system = {"role": "system", "content": "Answer in one word."}
    return Case([system, user("What is the capital of France?")], lambda text, _: text.strip(".") == "Paris")


BEHAVIOURS: dict[str, Callable[[Random], Case]] = {
    "unknown question: a short reply": _talk,
    "everyday prompts": _everyday,
    "count from 1 to at most 50": _count,
    "count from 1 to 50 … 200": _count_far,
    "weather call, 0 to 2 other tools": _weather,
    "weather call beside 1 to 3 others": _weather_beside_others,
    "two cities: two calls": _two_cities,
    "unrelated question: no call": _unrelated,
    "call NAME with ARG=VALUE": _named_call,
    "tool result quoted": _tool_result,
    "recall of a name, colour or code": _recall,
    "repeat 1 to 12 words": _copy,
    "think block, then a right answer": _think,
    "long story that ends": _story,
    "event in a JSON schema": _event_in_schema,
    "person in a JSON schema": _person_in_schema,
    "answer in a JSON schema": _answer_in_schema,
    "instructions: a name": _persona,
    "instructions: one word": _one_word,
}
SLOW = {"long story that ends", "count from 1 to 50 … 200"}  # measured on a tenth of the prompts
