"""Exchanges with tools: choosing one, calling it, telling the user what it said.

Owns which question leads to which call. The tools are the situation's; without any, the answer says so.
"""

from dataclasses import replace
from random import Random

from engine_worker.demo_model.exchanges import Situation, vary
from engine_worker.demo_model.messages import Call, Message, assistant, user
from engine_worker.demo_model.tools import KINDS, SLOTS, argument_values, result
from engine_worker.demo_model.words import CITIES, COMMON, NAMES, made_up, proper

NO_TOOL = "I cannot look that up, because I have no tool for it."


def tool_question(rng: Random, situation: Situation) -> list[Message]:
    """A question that one of the tools answers."""
    offered = [kind for _, kind in situation.offered if kind]
    if not offered:
        return named_tool(rng, situation)
    weather = KINDS["weather"]
    wanted = weather if weather in offered and rng.random() < 0.5 else rng.choice(offered)
    tool = next(tool for tool, kind in situation.offered if kind is wanted)
    several = 2 if wanted.several and rng.random() < 0.3 else 1
    filled = [tuple(SLOTS[slot](rng) for slot in wanted.slots) for _ in range(several)]
    form = rng.choice(wanted.questions)
    if several == 1:
        question = form.format(*filled[0])
    elif rng.random() < 0.85:
        question = form.format(f"{filled[0][0]} and {filled[1][0]}")
    else:
        question = form.format(filled[0][0]) + rng.choice([" And in {}?", " And {}?"]).format(filled[1][0])
    calls = [Call(tool.name, argument_values(tool, values)) for values in filled]
    why = f"The user asks about {' and '.join(str(values[0]) for values in filled)}. I will call {tool.name}."
    called = Message("assistant", "", why, tuple(calls), forced_call=several == 1 and rng.random() < 0.1)
    if called.forced_call:
        called = replace(called, reasoning="")
    return [user(vary(rng, question)), called, *_results(rng, wanted.subject, calls)]


def no_tool(rng: Random, _: Situation) -> list[Message]:
    """A question for a tool, asked when none is offered."""
    kind = KINDS[rng.choice(["weather", "weather", "time", "stock", "horoscope"])]
    question = rng.choice(kind.questions).format(*(SLOTS[slot](rng) for slot in kind.slots))
    return [user(vary(rng, question)), assistant(NO_TOOL, "I have no tool for this. I will say so.")]


def named_tool(rng: Random, situation: Situation) -> list[Message]:
    """A call spelt out by the user, or one that a forced tool choice makes whatever the user said."""
    tool, _ = rng.choice(situation.offered)
    values = tuple(
        rng.randint(0, 999) if kind in ("integer", "number") else _value(rng) for kind in tool.arguments.values()
    )
    call = Call(tool.name, dict(zip(tool.arguments, values, strict=True)))
    if rng.random() < 0.15 and len(values) == 1:
        question = rng.choice(["What about {}?", "{}", "Tell me about {}.", "{}, please"]).format(values[0])
        return [user(question), Message("assistant", "", "", (call,), forced_call=True)]
    form = rng.choice(
        ["Call the tool {} with {}.", "Call {} with {}", "Use the tool {} with {}.", "Please call {} with {}.",
         "Call the function {} with {}", "Call the tool {} with {}", "Use {} with {}"]
    )  # fmt: skip
    joint = " and " if rng.random() < 0.7 else ", "
    question = form.format(tool.name, joint.join(f"{key}={value}" for key, value in call.arguments.items()))
    called = assistant("", f"The user wants a call. I will call {tool.name}.", [call])
    return [user(question), called, *_results(rng, "", [call])]


def _value(rng: Random) -> str:
    return rng.choice(
        [made_up(rng), proper(rng, NAMES), str(rng.randint(0, 999)), rng.choice(COMMON), rng.choice(CITIES)]
    )


def _results(rng: Random, subject: str, calls: list[Call]) -> list[Message]:
    """What the tools said and how the user hears of it; or nothing, when the conversation stops at the call."""
    if rng.random() < 0.4:
        return []
    texts = [result(rng) for _ in calls]
    told = [
        f"The {subject} {next(iter(call.arguments.values()))}: {text}" if subject else f"The tool says: {text}"
        for call, text in zip(calls, texts, strict=True)
    ]
    answer = assistant("\n".join(told), "I have the result. I will tell the user.")
    return [*(Message("tool", text) for text in texts), answer]
