"""Words that fill the slots of the training dialogues: places, people, common English and words that exist nowhere.

Owns the pools and how one is drawn; knows nothing of dialogues. A model this small learns to copy only if it meets
far more words than it could memorise, so every drawing function mixes its pool with words made up on the spot.
"""

from random import Random

CITIES = [
    *"Paris London Berlin Madrid Rome Vienna Oslo Tokyo Kyoto Seoul Beijing Delhi Mumbai Cairo Nairobi Lagos".split(),
    *"Sydney Perth Toronto Boston Chicago Seattle Denver Austin Dallas Miami Rio Lima Bogota Havana Dublin".split(),
    *"Prague Warsaw Athens Munich Zurich Geneva Milan Turin Lyon Nice Porto Bangkok Hanoi Manila Jakarta".split(),
    *"Singapore Dubai Moscow Kyiv Amsterdam Brussels Portland Phoenix Houston Atlanta Washington".split(),
    *["San Francisco", "New York", "Los Angeles", "Las Vegas", "San Diego", "Hong Kong", "Buenos Aires"],
    *["Mexico City", "Sao Paulo", "Salt Lake City", "Santa Cruz", "Palo Alto", "Kansas City"],
    *["Paris, France", "London, UK", "Boston, MA", "San Francisco, CA", "Bogotá, Colombia", "Tokyo, Japan"],
]

NAMES = [
    *"Alice Bob Carol David Emma Frank Grace Henry Ivan Julia Kevin Laura Maria Nina Oscar Paul Rosa Sam Tom".split(),
    *"Uma Victor Wendy Yusuf Zoe Anna Ben Clara Daniel Eva Felix Hugo Jane John Lucy Mark Omar Peter Sara".split(),
    *"Ada Max Mary James Robert Linda Susan Charlie Dave Eve Erin Mike Lisa Chris Kim Alex Jordan".split(),
]

SURNAMES = "Smith Jones Brown Miller Davis Garcia Wilson Moore Taylor Lee Clark Young King Hill Green Baker".split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

COLORS = "red blue green yellow purple orange black white pink brown grey gold".split()

TOPICS = [
    *"dragons robots castles pirates foxes ships trains gardens winter summer friendship music space islands".split(),
    *"mountains computers rivers lighthouses wizards bees stars horses cities bread clocks cats dogs birds".split(),
    *["the sea", "the moon", "a robot", "a dragon", "a unicorn", "a cat", "a dog", "a lost key", "a brave knight"],
]

COMMON = [
    *"the a and or is was are will can with near under over into about from after before while because not".split(),
    *"old new small big quick slow fast quiet loud happy sad warm cold bright dark soft hard long short young".split(),
    *"clean dirty empty full open closed early late easy heavy light strong weak sweet bitter sharp smooth".split(),
    *"fox dog cat bird fish horse mouse bear wolf lion tiger rabbit snake spider whale eagle duck sheep goat".split(),
    *"house river mountain garden street bridge market school church library station airport harbour island".split(),
    *"forest desert valley beach village castle tower kitchen office hotel museum theatre farm field road".split(),
    *"sun moon star night day morning evening water fire earth wind rain snow storm cloud stone tree leaf".split(),
    *"apple bread milk coffee tea sugar salt cheese butter honey soup rice pasta pizza cake lemon orange egg".split(),
    *"boat train car bike plane wheel engine ticket map letter paper pen book page picture window door table".split(),
    *"chair lamp clock mirror bottle glass cup plate spoon knife box bag coat shoe hat ring key coin rope bell".split(),
    *"jump run walk sing dance write read speak listen watch play work build make break open close carry push".split(),
    *"pull find lose buy sell send give take keep bring think know learn teach ask answer start stop wait".split(),
    *"time year month week hour minute people man woman child friend family teacher doctor student driver".split(),
    *"player writer singer farmer baker king queen soldier captain stranger neighbour guest story song game".split(),
    *"world country city place part number name word line point question problem reason idea plan rule test".split(),
    *"server model token stream code file error value python program system network memory computer message".split(),
    *"history science nature art music language culture market money price order report meeting project team".split(),
    *"one two three four five six seven eight nine ten hundred thousand first second third last next other".split(),
    *"always never often sometimes again soon today tomorrow yesterday together alone maybe please hello".split(),
    *"best worst good bad better great little many much more most some every each both few several simple".split(),
    *"thanks guitar piano camera phone movie concert holiday birthday wedding party dinner lunch breakfast".split(),
    *"journey ocean planet rocket engineer machine experiment theory energy light gravity chemistry physics".split(),
]

_SUFFIXES = ["", "", "", "", "s", "ed", "ing", "er", "ly"]
_ONSETS = "b c d f g h j k l m n p r s t v w z br st tr sh ch kl qu".split()
_NUCLEI = "a e i o u ai ou ea".split()
_CODAS = ["", "", "n", "r", "l", "s", "x", "m", "ck"]
_LETTERS = "eeeeeetttttaaaaooooiiiinnnnsssshhhrrrrddlllcccuummwwffggyyppbbvkxjqz"
_SYMBOLS = list("éüß日本語中文привет{}[]()<>#*/+@$%&;`~|^\\'\"\n")


def syllables(rng: Random) -> str:
    """A word that can be pronounced: "trainlou"."""
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS) for _ in range(rng.choice([1, 2, 2, 3]))
    )


def letters(rng: Random) -> str:
    """A word of letters as frequent as in English but in any order, so that every pair of tokens is met."""
    return "".join(rng.choice(_LETTERS) for _ in range(rng.randint(2, 9)))


def word(rng: Random) -> str:
    """A lower-case word: an English one more often than not."""
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(COMMON) + rng.choice(_SUFFIXES)
    return syllables(rng) if kind < 0.85 else letters(rng)


def made_up(rng: Random) -> str:
    """A word that is in no pool."""
    return syllables(rng) if rng.random() < 0.65 else letters(rng)


def proper(rng: Random, pool: list[str], known: float = 0.4) -> str:
    """A capitalised name, from the pool with probability `known`; else made up, sometimes of two words."""
    if rng.random() < known:
        return rng.choice(pool)
    return " ".join(
        (rng.choice(COMMON) if rng.random() < 0.2 else made_up(rng)).capitalize() for _ in range(rng.choice([1, 1, 2]))
    )


def identifier(rng: Random) -> str:
    """A function or argument name, in snake case or (less often) camel case."""
    parts = [rng.choice(COMMON) if rng.random() < 0.6 else made_up(rng) for _ in range(rng.choice([1, 2, 2, 3]))]
    if rng.random() < 0.75:
        return "_".join(parts)
    return parts[0] + "".join(part.capitalize() for part in parts[1:])


def phrase(rng: Random, shortest: int = 1, longest: int = 12) -> str:
    """Words in a row, of one of three temperaments: English, mixed, or mostly names, numbers and nonsense."""
    english = rng.choice([1.0, 0.6, 0.15])
    words = [word(rng) if rng.random() < english else _oddity(rng) for _ in range(rng.randint(shortest, longest))]
    text = "".join(part + (", " if rng.random() < 0.05 else " ") for part in words).rstrip(", ")
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    return text + rng.choice(["", "", "", ".", "!"])


def _oddity(rng: Random) -> str:
    match rng.randrange(4):
        case 0:
            return proper(rng, NAMES, 0.5)
        case 1:
            return str(rng.randint(0, 9999))
        case 2:
            return made_up(rng).upper()
        case _:
            return made_up(rng)


def gibberish(rng: Random) -> str:
    """Symbols and other scripts."""
    return "".join(rng.choice(_SYMBOLS) for _ in range(rng.randint(1, 12)))
