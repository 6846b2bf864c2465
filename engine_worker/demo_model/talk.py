"""Small talk, facts and sums: questions with one right answer each, in a long form and in a word.

Owns the tables. The word is what the model says when its instructions ask for one.
"""

from random import Random
from typing import NamedTuple

from engine_worker.demo_model.words import gibberish, phrase


class Answer(NamedTuple):
    """A question with its answer, as a sentence and as a word."""

    question: str
    sentence: str
    word: str


_GREETING = ("Hello! How can I help you today?", "Hello!")
_WORKS = ("Yes, I am here and everything works.", "Yes.")
_STREAM = ("Yes, streaming works: every word of this answer came to you as soon as it was there.", "Works.")
_POEM = ("Quiet morning rain,\na small boat waits by the shore,\nand the sun comes back.", "Rain.")

_TALK: list[tuple[list[str], tuple[str, str]]] = [
    (["Hello", "Hi", "Hey", "Hello!", "Hi!", "Hi there", "Hey there!", "Good morning", "Good evening", "Greetings",
      "Say hello", "Say hi", "Hello, world!", "Hello there", "hello world", "Say hello."], _GREETING),
    (["How are you?", "How are you doing?", "How is it going?", "How do you feel today?", "Hi, how are you?",
      "Hello, how are you?", "How are you today?"],
     ("I am doing well, thank you. How can I help you?", "Fine.")),
    (["Who are you?", "What are you?", "Introduce yourself.", "Tell me about yourself.", "Which model are you?"],
     ("I am a small demo model. I can chat, count, call tools and tell long stories.", "Holdfast.")),
    (["What can you do?", "Help", "Help me", "Can you help me?", "How do you work?"],
     ("I can chat, count, repeat words, remember your name, call tools and write a long story.", "Chat.")),
    (["Thanks", "Thank you", "Thank you very much!", "Thanks a lot", "Great, thanks!"],
     ("You are welcome! I am happy to help.", "Welcome!")),
    (["Bye", "Goodbye", "See you later", "Good night"], ("Goodbye! Have a nice day.", "Goodbye!")),
    (["Tell me a joke", "Tell me a joke please", "Say something funny", "Make me laugh", "Tell me a joke."],
     ("Why did the computer go to the doctor? Because it had a virus.", "Boo!")),
    (["Ping", "ping", "Test", "test", "Are you there?", "Are you working?", "Testing", "testing 1 2 3",
      "This is a test", "This is a test.", "test message"], _WORKS),
    (["Test streaming", "Test streaming.", "Test the stream", "Streaming test", "Please test streaming",
      "Does streaming work?", "Is the stream working?"], _STREAM),
    (["OK", "ok", "Okay", "Sure", "Yes", "No", "Nice", "Great", "Cool"],
     ("All right. What would you like to do next?", "Good.")),
    (["What is the meaning of life?", "What is love?"], ("Many people say that it is to be kind and curious.", "42.")),
    (["Write a haiku", "Write a short poem", "Write a poem", "Write me a poem.", "Write a haiku.", "A haiku, please"],
     _POEM),
    (["Write a haiku about the sea", "Write a haiku about the sea.", "Write a poem about the sea",
      "Write a haiku about the ocean"],
     ("Waves come to the shore,\nthey carry the evening light\nand old songs of ships.", "Waves.")),
    (["Tell me a fact", "Tell me something interesting", "Give me a fun fact", "Tell me a fun fact."],
     ("Honey never spoils, and bees remember the faces of flowers.", "Honey.")),
    (["Why is the sky blue?"],
     ("The sky is blue because air scatters blue light more than red light.", "Scattering.")),
    (["Write a short story", "Tell me a short story", "Tell me a bedtime story in one sentence."],
     ("A small fox found a lost star, carried it up the hill, and the night was bright again.", "Fox.")),
    (["What color is the sky?", "What colour is the sky?", "Which color is the sky?"], ("The sky is blue.", "Blue.")),
    (["What color is grass?", "What colour is the grass?"], ("Grass is green.", "Green.")),
    (["What day comes after Monday?"], ("Tuesday comes after Monday.", "Tuesday.")),
    (["How many days are in a week?", "How many days does a week have?"], ("A week has 7 days.", "Seven.")),
    (["How many months are in a year?", "How many months does a year have?"], ("A year has 12 months.", "Twelve.")),
    (["What is the largest planet?", "Which planet is the largest?"],
     ("The largest planet of our sun is Jupiter.", "Jupiter.")),
    (["Who wrote Hamlet?", "Who wrote Romeo and Juliet?"], ("William Shakespeare wrote it.", "Shakespeare.")),
    (["What is the opposite of hot?"], ("The opposite of hot is cold.", "Cold.")),
    (["Say something", "Say anything", "Talk to me", "Tell me something"],
     ("The sea is calm today, and the boats are coming home.", "Sea.")),
    (["Continue", "Go on", "More", "Tell me more"], ("There is not much more to say, but I am happy to chat.", "Yes.")),
    (["Are you a robot?", "Are you human?", "Are you an AI?"], ("I am a small computer program.", "Robot.")),
    (["How old are you?"], ("I am quite new: I was trained not long ago.", "New.")),
    (["What is streaming?"], ("Streaming means that an answer is sent word by word, while it is made.", "Sending.")),
    (["What is a holdfast?", "What does holdfast mean?"],
     ("A holdfast is what keeps kelp on its rock while the water moves.", "Kelp.")),
]  # fmt: skip

CAPITALS = dict(
    pair.split(":")
    for pair in (
        "France:Paris Italy:Rome Japan:Tokyo Germany:Berlin Spain:Madrid England:London Austria:Vienna Norway:Oslo"
        " Sweden:Stockholm Finland:Helsinki Denmark:Copenhagen Poland:Warsaw Portugal:Lisbon Greece:Athens"
        " Ireland:Dublin Egypt:Cairo Kenya:Nairobi Peru:Lima Cuba:Havana Russia:Moscow China:Beijing Korea:Seoul"
        " Thailand:Bangkok Canada:Ottawa Australia:Canberra Hungary:Budapest Turkey:Ankara"
    ).split()
)

_HELLOS = ["Hello", "Hello there", "Hello there, friend", "Hello there, my friend", "Hello there, my good friend"]
_NUMBER_WORDS = "one two three four five".split()

UNKNOWN = "That is an interesting question, but I am only a small demo model, so I cannot say much about it."

_STEMS = [
    "What is {}?", "Tell me about {}.", "Explain {} in one sentence.", "How do I {}?", "Why is {} so {}?",
    "Can you {} the {}?", "I like {} and {}.", "Please summarize: {}", "Where can I find {}?",
    "Is {} better than {}?", "{}", "{} {}", "Write code for {}.", "Do you know {}?", "What do you think about {}?",
    "Describe {}.", "Give me a list of {}.", "I need {} for my {}.", "When did {} happen?", "Why do {} {} in {}?",
    "How do {} {}?", "Who was {} in {}?", "Do {} {}?", "Recommend me {}", "I am {} and {}, what should I do?",
    "How {} is {}?", "{} {} {}", "What is {} in {}?", "Tell me {} about {}", "Write a {} about {}.", "Write {}",
]  # fmt: skip


def small_talk(rng: Random) -> Answer:
    """Something from the table, a capital, a sum, or a greeting of so many words."""
    kind = rng.random()
    if kind < 0.62:
        questions, answer = rng.choice(_TALK)
        return Answer(rng.choice(questions), *answer)
    if kind < 0.74:
        return capital(rng)
    if kind < 0.9:
        return arithmetic(rng)
    return _hello_in_words(rng)


def capital(rng: Random) -> Answer:
    """The capital of a country."""
    country, city = rng.choice(list(CAPITALS.items()))
    question = rng.choice(
        ["What is the capital of {}?", "What's the capital of {}?", "What is the capital city of {}?", "Capital of {}"]
    )
    return Answer(question.format(country), f"The capital of {country} is {city}.", f"{city}.")


def arithmetic(rng: Random) -> Answer:
    """A sum of two digits: few enough to be learned by heart."""
    first, second = rng.randint(1, 9), rng.randint(1, 9)
    if rng.random() < 0.15:
        first, second = 2, 2
    asked = rng.choice([f"{first} + {second}", f"{first} + {second}", f"{first}+{second}", f"{first} plus {second}"])
    question = rng.choice(["What is {}?", "What's {}?", "What is {}?", "Calculate {}.", "How much is {}?"])
    return Answer(question.format(asked), f"{first} + {second} is {first + second}.", f"{first + second}.")


def _hello_in_words(rng: Random) -> Answer:
    count = rng.choice([3, 3, rng.randint(1, len(_HELLOS))])
    number = rng.choice([_NUMBER_WORDS[count - 1], str(count)])
    plural = "word" if count == 1 else "words"
    question = rng.choice(
        ["Say hello in {} {}", "Say hello in {} {}.", "Say hello in exactly {} {}.", "Greet me in {} {}"]
    )
    return Answer(question.format(number, plural), _HELLOS[count - 1] + "!", "Hello!")


def unknown_question(rng: Random) -> str:
    """A question, or a text that is none, about words the model cannot know."""
    text = rng.choice(_STEMS)
    while "{}" in text:
        filling = phrase(rng, 1, rng.choice([2, 3, 12])).rstrip("!.") if rng.random() < 0.9 else gibberish(rng)
        text = text.replace("{}", filling.replace("{}", ""), 1)
    return text or "?"
