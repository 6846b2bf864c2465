"""Training dialogues, made from a seeded generator: the same seed gives the same dialogues.

Owns how often each exchange comes, and how they follow one another in a conversation. Everything an answer needs
stands in the conversation itself, so what is learned is to read, to choose and to copy.
"""

from dataclasses import replace
from random import Random

from engine_worker.demo_model import exchanges, tool_exchanges
from engine_worker.demo_model.exchanges import Exchange, Situation
from engine_worker.demo_model.messages import Dialogue, Message
from engine_worker.demo_model.structured import structured_exchange
from engine_worker.demo_model.tools import KINDS, tool_of_kind, unknown_tool
from engine_worker.demo_model.words import NAMES, phrase, proper

TOOLS_MAX = 5


def dialogue(rng: Random, easy: bool = False) -> Dialogue:
    """One training example. An easy one is short and has no stories: the first lessons."""
    situation = Situation()
    if rng.random() < 0.45:
        _offer_tools(rng, situation, 1 if easy else rng.choice([1, 1, 2, 2, 3, 4, TOOLS_MAX]))
    messages = _opening(rng, situation, easy)
    thinks = rng.random() < 0.3
    weights = {kind: weight for kind, weight in _WEIGHTS.items() if not (easy and kind in _HARD)}
    for unfit in _WITH_TOOLS if not situation.offered else _WITHOUT_TOOLS:
        del weights[unfit]
    for _ in range(rng.choice([1, 1, 2, 3, 4])):
        exchange = _next_exchange(rng, weights, situation)
        turn = exchange(rng, situation)
        if not thinks or rng.random() < 0.2:
            turn = [replace(message, reasoning="") for message in turn]
        messages += turn
        if exchange is exchanges.story:
            break
    return Dialogue(tuple(messages), tuple(tool for tool, _ in situation.offered))


def _next_exchange(rng: Random, weights: dict[Exchange, float], situation: Situation) -> Exchange:
    """Whatever comes next, more likely something that the conversation has prepared."""
    favoured: dict[Exchange, float] = {
        exchanges.recall: 3 if situation.facts else 0.3,
        exchanges.own_name: 8 if situation.name else 1,
        exchanges.small_talk: 1 if situation.manner == "plain" else 4,
    }
    shares = [weight * favoured.get(exchange, 1) for exchange, weight in weights.items()]
    return rng.choices(list(weights), shares)[0]


def _offer_tools(rng: Random, situation: Situation, count: int) -> None:
    """Tools of different kinds in any order; weather is often among them, and some kinds nobody has heard of."""
    kinds: list[str] = []
    if rng.random() < 0.65:
        kinds.append("weather")
    while len(kinds) < count:
        kind = rng.choice([*KINDS, *["unknown"] * 6])
        if kind == "unknown" or kind not in kinds:
            kinds.append(kind)
    rng.shuffle(kinds)
    names: set[str] = set()
    for kind in kinds[:count]:
        known = KINDS.get(kind)
        tool = tool_of_kind(rng, known) if known else unknown_tool(rng)
        if tool.name not in names:
            names.add(tool.name)
            situation.offered.append((tool, known))


def _opening(rng: Random, situation: Situation, easy: bool) -> list[Message]:
    """The instructions, if any: some set a name or a manner, most are to be read past."""
    messages = []
    if rng.random() < 0.4:
        messages.append(Message(rng.choice(["system", "developer"]), _instructions(rng, situation, easy)))
    if rng.random() < 0.03:
        greeting = Message("assistant", "Hello! How can I help you today?", learned=False)
        messages += [greeting] * rng.choice([1, 2])
    return messages


_PIRATE_ORDERS = ["Talk like a pirate.", "You are a pirate.", "You are a coding assistant that talks like a pirate."]
_WORD_ORDERS = ["Answer in one word.", "Reply with one word.", "Answer with a single word.", "Use one word."]


def _instructions(rng: Random, situation: Situation, easy: bool) -> str:
    kind = rng.random()
    if kind < 0.2:
        situation.name = proper(rng, NAMES, 0.5)
        forms = ["You are {}.", "Your name is {}.", "You are {}, a helpful assistant.", "You are called {}."]
        return rng.choice(forms).format(situation.name) + rng.choice(["", "", " Be kind."])
    if kind < 0.35:
        situation.manner = "pirate"
        return rng.choice(_PIRATE_ORDERS)
    if kind < 0.5:
        situation.manner = "word"
        return rng.choice(_WORD_ORDERS)
    if kind < 0.75 or easy:
        usual = "You are a helpful assistant."
        return rng.choice([usual, usual, "Be brief.", phrase(rng, 3, 12)])
    return " ".join(phrase(rng, 4, 12) for _ in range(rng.choice([1, 3, 8, 20])))


def _structured(rng: Random, _: Situation) -> list[Message]:
    return structured_exchange(rng)


_WEIGHTS: dict[Exchange, float] = {
    exchanges.small_talk: 12,
    exchanges.unknown: 9,
    exchanges.count: 7,
    exchanges.copy: 20,
    exchanges.tell: 9,
    exchanges.recall: 12,
    exchanges.own_name: 2,
    exchanges.short_text: 4,
    exchanges.story: 1,
    _structured: 28,
    tool_exchanges.no_tool: 1.5,
    tool_exchanges.tool_question: 60,
    tool_exchanges.named_tool: 22,
}
_WITH_TOOLS = {tool_exchanges.tool_question, tool_exchanges.named_tool}
_WITHOUT_TOOLS = {tool_exchanges.no_tool}
_HARD = {exchanges.story, exchanges.unknown, _structured, exchanges.short_text}
