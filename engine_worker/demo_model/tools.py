"""Tools of the training dialogues: what they are for, how one asks for them, what they answer.

Owns the kinds of tools. A kind varies in name, argument name and description from dialogue to dialogue, so that the
model must read the list it is given; several kinds are offered side by side, so that it must choose.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from engine_worker.demo_model.messages import Json, Tool
from engine_worker.demo_model.words import CITIES, COMMON, NAMES, identifier, made_up, phrase, proper, syllables


@dataclass(frozen=True)
class ToolKind:
    """What a tool is for. `questions` have a place for each of `slots`; `subject` names it in the final answer."""

    names: tuple[str, ...]
    arguments: tuple[tuple[str, ...], ...]  # of each argument the names it may have
    slots: tuple[str, ...]  # of each argument what fills it: a key of SLOTS
    descriptions: tuple[str, ...]
    questions: tuple[str, ...]
    subject: str = ""
    several: bool = False  # "in Paris and Rome" is two calls
    options: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())


def _command(rng: Random) -> str:
    return rng.choice(["ls", "ls -la", "pwd", f"cat {made_up(rng)}.txt", f"echo {made_up(rng)}", "git status"])


SLOTS: dict[str, Callable[[Random], str | int]] = {
    "city": lambda rng: proper(rng, CITIES),
    "person": lambda rng: proper(rng, NAMES),
    "symbol": lambda rng: rng.choice([made_up(rng)[:4].upper(), proper(rng, NAMES, 0.2)]),
    "phrase": lambda rng: phrase(rng, 1, 5).rstrip(".!,"),
    "title": lambda rng: phrase(rng, 1, 3).rstrip(".!,"),
    "command": _command,
    "number": lambda rng: rng.randint(0, rng.choice([9, 99, 999])),
    "sign": lambda rng: rng.choice(
        "Aries Taurus Gemini Cancer Leo Virgo Libra Scorpio Sagittarius Capricorn Aquarius Pisces".split()
    ),
    "language": lambda rng: rng.choice("French German Spanish Italian Japanese Korean Dutch Polish Latin".split()),
}

_UNITS = (
    ("unit", ("celsius", "fahrenheit")),
    ("units", ("celsius", "fahrenheit")),
    ("units", ("metric", "imperial")),
    ("format", ("short", "long")),
)

KINDS: dict[str, ToolKind] = {
    "weather": ToolKind(
        (
            "get_weather",
            "get_weather",
            "weather",
            "lookup_weather",
            "get_current_weather",
            "getWeather",
            "weather_lookup",
            "get_forecast",
            "check_weather",
            "current_weather",
            "get_temperature",
        ),
        (("location", "city", "location", "city", "place"),),
        ("city",),
        (
            "Get the weather",
            "Get the current weather for a location",
            "Get the weather in a city.",
            "",
            "Look up the weather in a city",
            "Returns the current weather conditions for the given city.",
            "Weather forecast",
            "Get current temperature for a given location.",
            "Get weather information for a city",
            "Get the current weather in a given location",
        ),
        (
            "What's the weather like in {}?",
            "What's the weather like in {} today?",
            "What is the weather in {}?",
            "What's the weather in {}?",
            "What's the weather in {} today?",
            "How is the weather in {}?",
            "How's the weather in {}?",
            "Weather in {}",
            "Is it raining in {}?",
            "Tell me the weather in {}.",
            "Check the weather for {}.",
            "Use the tool to get the weather in {}.",
            "Is it cold in {}?",
            "What's the temperature in {} right now?",
            "Please look up the weather in {}",
            "Get the weather in {}",
            "Can you tell me the weather in {}?",
            "Will it rain in {} tomorrow?",
            "I am going to {}. What is the weather there?",
            "What is the weather like in {} right now?",
            "Do I need an umbrella in {}?",
            "Could you check the weather in {}?",
        ),
        "weather in",
        several=True,
        options=_UNITS,
    ),
    "time": ToolKind(
        ("get_time", "current_time", "get_current_time", "clock", "world_clock"),
        (("location", "city", "timezone", "place"),),
        ("city",),
        ("Get the current time", "Get the time in a city", "", "Returns the local time of a place."),
        (
            "What time is it in {}?",
            "What is the time in {}?",
            "Tell me the current time in {}.",
            "Time in {}",
            "What's the local time in {} now?",
        ),
        "time in",
        several=True,
    ),
    "stock": ToolKind(
        ("get_stock_price", "stock_price", "get_price", "lookup_stock", "quote"),
        (("symbol", "ticker", "company"),),
        ("symbol",),
        ("Get the price of a stock", "Stock prices", "", "Returns the latest price of a share."),
        (
            "What is the price of {}?",
            "What is the stock price of {}?",
            "How much is {} stock?",
            "What's {} trading at?",
        ),
        "price of",
        several=True,
    ),
    "population": ToolKind(
        ("get_population", "city_facts", "population_of", "get_city_info"),
        (("city", "place", "name"),),
        ("city",),
        ("Get the population of a city", "Facts about a city", "Number of people in a place"),
        ("How many people live in {}?", "What is the population of {}?", "How big is {}?"),
        "population of",
        several=True,
    ),
    "search": ToolKind(
        ("search", "web_search", "search_docs", "find", "search_files", "lookup", "search_knowledge_base"),
        (("query", "q", "text"),),
        ("phrase",),
        ("Search the web", "Search the documents for a text", "", "Finds pages about a text."),
        (
            "Search for: {}",
            "Search the web for: {}",
            "Find: {}",
            "Look up: {}",
            "Search for {}",
            "Find pages on {}",
            "Please search for {}",
        ),
    ),
    "shell": ToolKind(
        ("shell", "run_command", "exec", "bash"),
        (("command", "cmd"),),
        ("command",),
        ("Run a shell command", "Runs a command and returns its output.", ""),
        ("Run the command: {}", "Run: {}", "Execute: {}", "Run {}"),
    ),
    "email": ToolKind(
        ("send_email", "send_mail", "email", "send_message", "notify"),
        (("to", "recipient", "address", "person"),),
        ("person",),
        ("Sends an email to a person", "Send an email", "Send a message to somebody", ""),
        ("Send an email to {}.", "Write an email to {}", "Email {}", "Please send a mail to {}.", "Send {} a message."),
    ),
    "letter": ToolKind(
        ("send_email", "send_mail", "compose_email", "send_message"),
        (("to", "recipient"), ("subject", "title", "body", "text")),
        ("person", "title"),
        ("Sends an email with a subject to a person", "Send an email", "Send a message to somebody"),
        ("Send an email to {} about {}.", "Email {} about {}", "Send {} a message: {}", "Write to {} about {}"),
    ),
    "event": ToolKind(
        ("create_event", "add_event", "schedule_meeting", "book_meeting", "add_to_calendar"),
        (("title", "name", "event"),),
        ("title",),
        ("Creates a calendar event", "Add an event to the calendar", "Schedules a meeting", ""),
        ("Create an event: {}", "Add to my calendar: {}", "Schedule a meeting: {}", "Plan an event called {}"),
    ),
    "ticket": ToolKind(
        ("create_ticket", "open_ticket", "add_todo", "create_task", "add_note", "create_reminder"),
        (("title", "text", "task", "note"),),
        ("title",),
        ("Creates a ticket", "Adds a task to the list", "Add a note", "", "Creates a reminder"),
        ("Create a ticket: {}", "Add a task: {}", "Note: {}", "Remind me of {}", "Remind me to {}"),
    ),
    "translate": ToolKind(
        ("translate_text", "translate", "translator"),
        (("text", "source"), ("language", "target", "to")),
        ("title", "language"),
        ("Translates a text", "Translate text into another language", ""),
        ("Translate {} into {}.", "Translate {} to {}", "Please translate {} into {}"),
    ),
    "add": ToolKind(
        ("add", "calculator", "sum", "add_numbers", "multiply", "calculate"),
        (("a", "x", "first"), ("b", "y", "second")),
        ("number", "number"),
        ("Adds two numbers", "Calculator", "Computes with two numbers", ""),
        ("Add {} and {}.", "What is {} plus {}?", "What is {} + {}?", "Calculate {} times {}", "Multiply {} by {}"),
    ),
    "horoscope": ToolKind(
        ("get_horoscope", "horoscope"),
        (("sign",),),
        ("sign",),
        ("Get today's horoscope for an astrological sign.", "Horoscopes", ""),
        ("What is my horoscope? I am an {}.", "What is the horoscope for {}?", "Horoscope for {}", "I am a {}."),
        "horoscope for",
        several=True,
    ),
    "flight": ToolKind(
        ("book_flight", "find_flights", "search_flights", "book_hotel", "book_trip"),
        (("destination", "to", "city"),),
        ("city",),
        ("Books a flight", "Finds flights to a city", "", "Book a trip"),
        (
            "Book a flight to {}.",
            "Find a flight to {}",
            "I want to fly to {}.",
            "Book me a trip to {}",
            "Find me a hotel in {}",
        ),
    ),
    "user": ToolKind(
        ("get_user", "find_customer", "lookup_user", "get_order", "query_database"),
        (("name", "id", "user", "key"),),
        ("person",),
        ("Looks a user up", "Get a customer by name", "Query the database", ""),
        ("Look up the user {}.", "Who is the customer {}?", "Find the user {}", "Get the record of {}"),
    ),
    "music": ToolKind(
        ("play_music", "play_song", "start_playlist", "open_app"),
        (("title", "song", "name"),),
        ("title",),
        ("Plays a song", "Play music", "Starts an app", ""),
        ("Play {}", "Play the song {}", "Please play {}."),
    ),
}

_TYPES = {"number": "integer"}
_PLAIN_ARGUMENTS = "text value query id name x city location input number path key amount target mode".split()


def tool_of_kind(rng: Random, kind: ToolKind) -> Tool:
    """One tool of that kind."""
    name, description = rng.choice(kind.names), rng.choice(kind.descriptions)
    if description and rng.random() < 0.15:
        name = identifier(rng)  # then only the description tells
    if not description and rng.random() < 0.5:
        description = phrase(rng, 1, 5)
    arguments: dict[str, str | list[str]] = {}
    for alternatives, slot in zip(kind.arguments, kind.slots, strict=True):
        key = rng.choice(alternatives) if rng.random() < 0.9 else identifier(rng)
        arguments[key] = _TYPES.get(slot, "string") if slot != "number" else rng.choice(["integer", "number"])
    if kind.options and rng.random() < 0.2:
        key, values = rng.choice(kind.options)
        arguments[key] = [*values]
    return Tool(name, description, arguments)


def unknown_tool(rng: Random) -> Tool:
    """A tool of no kind: it is called only when it is named."""
    count = rng.choice([1, 1, 2])
    keys = [identifier(rng) if rng.random() < 0.5 else rng.choice(_PLAIN_ARGUMENTS) for _ in range(count)]
    description = rng.choice(["", "A tool", phrase(rng, 2, 8), phrase(rng, 2, 8)])
    return Tool(identifier(rng), description, dict.fromkeys(keys, "string"))


def argument_values(tool: Tool, filled: tuple[str | int, ...]) -> dict[str, Json]:
    """The arguments of a call: the first ones as asked, the rest (options) their first choice."""
    values: dict[str, Json] = {}
    for place, (key, kind) in enumerate(tool.arguments.items()):
        values[key] = filled[place] if place < len(filled) else kind[0]
    return values


def result(rng: Random) -> str:
    """What a tool answers: weather, JSON, or any text."""
    kind = rng.random()
    condition = rng.choice(["sunny", "cloudy", "rainy", "windy", "snowy", "foggy", "clear", syllables(rng)])
    degrees = rng.randint(-9, 39)
    if kind < 0.35:
        return rng.choice(
            [
                f"{condition}, {degrees} degrees",
                f"{degrees} degrees and {condition}",
                f"{degrees}°C",
                condition,
                f"{degrees} C, {condition}",
                f"The weather is {condition}",
                f"{condition.capitalize()}, {degrees}°C",
                f"The weather in {proper(rng, CITIES)} is {condition}.",
            ]
        )
    if kind < 0.6:
        return _json_result(rng, condition, degrees)
    return phrase(rng, 1, 10)


def _json_result(rng: Random, condition: str, degrees: int) -> str:
    if rng.random() < 0.4:
        return json.dumps({"temperature": degrees, rng.choice(["condition", "conditions", "sky"]): condition})
    usual = ["temperature", "result", "status", "value", "city", "price"]
    keys = rng.sample([made_up(rng), rng.choice(COMMON), *usual], 3)
    values = [rng.randint(0, 999), made_up(rng), phrase(rng, 1, 3).rstrip("."), proper(rng, CITIES)]
    return json.dumps({key: rng.choice(values) for key in keys[: rng.randint(1, 3)]}, ensure_ascii=False)
