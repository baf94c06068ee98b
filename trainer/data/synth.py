"""The `synth` corpus: stories whose exact information content is known, as a check of all BPB accounting.

Takes seeds and sizes; gives documents and the bits of information in them. The grammar (`story`) runs over
a source of choices: the same walk writes a story and reads one. Much of what is said follows from what was
said before: who holds what, who is where, how the refrain goes. A model that looks back pays little for
it.

Nobody can expect to code the stories in fewer bits than their floor, and the chance to end 64 bits below
it is at most 2^-64. How many sentences a story has is fixed: where a document ends is not scored, so it
must not carry information.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from trainer.data import lexicon
from trainer.data.choices import Reader, Source, Teller, Weights

SENTENCES = 24
IN_PARAGRAPH = 6
CAST = 4
# A fixed seed: training text is the same for everybody.
TRAINING_SEED = 1
TRAINING_BYTES = 12_000_000
VALIDATION_BYTES = 300_000
HIDDEN_BYTES = 40_000  # of stories that are scored and never reported


def falling(count: int, start: int = 6) -> list[int]:
    """Weights like those of words in real text: the n-th about as likely as 1 / (n + start)."""
    return [10_000 // (number + start) for number in range(count)]


EVEN = {count: Weights([1] * count) for count in range(1, 20)}
FALLING = {count: Weights(falling(count)) for count in (8, 16, 32)}
VARIED = Weights(falling(64, 20))
# The one who was mentioned last is rarely the next to act; the one before often is.
SUBJECT = Weights([2, 6, 3, 2])
OTHER = Weights([5, 3, 2])
ENDING = Weights([1, 2])

KINDS = tuple(lexicon.VERBS)
# What tends to follow what, in the order of KINDS: go, take, give, tell, see, make, sing, stay.
FOLLOWS = {
    "go": (1, 5, 3, 4, 6, 2, 2, 3),
    "take": (6, 1, 4, 3, 2, 3, 1, 2),
    "give": (4, 5, 1, 4, 2, 3, 2, 2),
    "tell": (4, 3, 3, 4, 3, 2, 2, 1),
    "see": (3, 2, 2, 5, 4, 4, 3, 3),
    "make": (3, 2, 6, 3, 2, 3, 2, 3),
    "sing": (4, 2, 1, 3, 4, 2, 1, 6),
    "stay": (7, 2, 2, 4, 5, 3, 3, 1),
}


def _words(text: str, turn: int = 0) -> tuple[str, ...]:
    """The words of a list, turned round by some places: topics prefer different words of the same list."""
    words = text.split()
    return (*words[turn:], *words[:turn])


PLACES = tuple(map(_words, lexicon.PLACES))
THINGS = tuple(map(_words, lexicon.THINGS))
SIGHTS = tuple(map(_words, lexicon.SIGHTS))
TRADES = _words(lexicon.TRADES)
REFRAIN = _words(lexicon.REFRAIN)
ADJECTIVES = tuple(_words(lexicon.ADJECTIVES, 8 * topic) for topic in range(len(lexicon.TOPICS)))
ADVERBS = tuple(_words(lexicon.ADVERBS, 8 * topic) for topic in range(len(lexicon.TOPICS)))
VERBS = tuple(verb for verbs in lexicon.VERBS.values() for verb in verbs.split())
KIND_OF = tuple(kind for kind, verbs in lexicon.VERBS.items() for _ in verbs.split())


def _verb_weights(previous: str, barred: tuple[str, ...]) -> Weights:
    weights: list[int] = []
    for kind, share in zip(KINDS, FOLLOWS[previous], strict=True):
        count = len(lexicon.VERBS[kind].split())
        within = falling(count)
        # Each kind gets its share whatever the number of its verbs.
        scale = 0 if kind in barred else share * (1_000_000 // sum(within))
        weights += [scale * weight for weight in within]
    return Weights(weights)


VERB_WEIGHTS = {
    (previous, can_take, can_give): _verb_weights(
        previous, (() if can_take else ("take",)) + (() if can_give else ("give",))
    )
    for previous in KINDS
    for can_take in (False, True)
    for can_give in (False, True)
}


@dataclass
class World:
    """What has been told so far."""

    topic: int
    cast: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    holder: dict[str, str] = field(default_factory=dict)
    """Who has which thing."""
    where: dict[str, str] = field(default_factory=dict)
    refrain: str = ""
    recent: list[str] = field(default_factory=list)
    """The cast, the one mentioned last first."""

    def mention(self, name: str) -> None:
        self.recent.remove(name)
        self.recent.insert(0, name)


def story(source: Source) -> None:
    """One document."""
    source.text("A tale of the ")
    world = World(source.word(lexicon.TOPICS, FALLING[8]))
    source.text(".\n\n")
    _cast(source, world)
    _things(source, world)
    previous = "stay"
    for number in range(SENTENCES):
        source.text("\n\n" if number % IN_PARAGRAPH == 0 else " ")
        previous = _sentence(source, world, previous)


def _cast(source: Source, world: World) -> None:
    initials = lexicon.CONSONANTS
    places = list(PLACES[world.topic])
    for number in range(CAST):
        source.text("" if number == 0 else " ")
        name, initials = _name(source, initials)
        source.text(" the ")
        source.word(TRADES, FALLING[16])
        source.text(" lived in the ")
        place = places[source.word(places, EVEN[len(places)])]
        source.text(".")
        places.remove(place)
        world.cast.append(name)
        world.places.append(place)
        world.where[name] = place
    world.recent = list(world.cast)


def _name(source: Source, initials: str) -> tuple[str, str]:
    """A name with an initial of its own, and the initials that are left. No two of a cast are alike."""
    first = initials[source.letter(initials.upper(), EVEN[len(initials)])]
    name = first.upper()
    for letters in (lexicon.VOWELS, lexicon.CONSONANTS, lexicon.VOWELS):
        name += letters[source.letter(letters, EVEN[len(letters)])]
    return name, initials.replace(first, "")


def _things(source: Source, world: World) -> None:
    things = list(THINGS[world.topic])
    for owner in world.cast[:-1]:
        source.text(f" {owner} had a ")
        source.word(ADJECTIVES[world.topic], VARIED)
        source.text(" ")
        thing = things[source.word(things, EVEN[len(things)])]
        source.text(".")
        things.remove(thing)
        world.holder[thing] = owner
    source.text(f" {world.cast[-1]} knew a song:")
    words = []
    for _ in range(3):
        source.text(" ")
        words.append(REFRAIN[source.word(REFRAIN, FALLING[32])])
    source.text(".")
    world.refrain = " ".join(words)


def _sentence(source: Source, world: World, previous: str) -> str:
    """Somebody does something; gives the kind of deed."""
    who = world.recent[source.word(world.recent, SUBJECT)]
    world.mention(who)
    own = [thing for thing, holder in world.holder.items() if holder == who]
    others = [thing for thing, holder in world.holder.items() if holder != who]
    source.text(" ")
    kind = KIND_OF[source.word(VERBS, VERB_WEIGHTS[previous, bool(others), bool(own)])]
    source.text(" ")
    if kind == "go":
        _go(source, world, who)
    elif kind == "take":
        thing = _which(source, others)
        source.text(f" from {world.holder[thing]}")
        world.mention(world.holder[thing])
        world.holder[thing] = who
    elif kind == "give":
        thing = _which(source, own)
        source.text(" to ")
        world.holder[thing] = _somebody(source, world)
    elif kind == "tell":
        _somebody(source, world)
        source.text(" about the ")
        _sight(source, world)
    elif kind == "see":
        source.text("the ")
        _sight(source, world)
    elif kind == "make":
        source.text("a ")
        source.word(ADJECTIVES[world.topic], VARIED)
        source.text(" ")
        source.word(THINGS[world.topic], FALLING[8])
    elif kind == "sing":
        source.text(world.refrain)
    else:
        source.text(f"in the {world.where[who]}")
    _end(source, world)
    return kind


def _go(source: Source, world: World, who: str) -> None:
    places = [place for place in world.places if place != world.where[who]]
    source.text("to the ")
    world.where[who] = places[source.word(places, EVEN[len(places)])]


def _which(source: Source, things: list[str]) -> str:
    source.text("the ")
    return things[source.word(things, EVEN[len(things)])]


def _somebody(source: Source, world: World) -> str:
    others = world.recent[1:]
    name = others[source.word(others, OTHER)]
    world.mention(name)
    return name


def _sight(source: Source, world: World) -> None:
    source.word(ADJECTIVES[world.topic], VARIED)
    source.text(" ")
    source.word(SIGHTS[world.topic], FALLING[8])


def _end(source: Source, world: World) -> None:
    if source.letter(". ", ENDING) == 1:
        source.word(ADVERBS[world.topic], VARIED)
        source.text(".")


class Stories(NamedTuple):
    texts: list[str]
    bits: float


def tell(seed: int, size: int) -> Stories:
    """As many stories as reach `size` bytes, and the bits of information in them."""
    teller = Teller(seed)
    texts, told = [], 0
    while told < size:
        story(teller)
        texts.append(teller.finish())
        told += len(texts[-1])
    return Stories(texts, teller.bits)


def information(texts: Sequence[str]) -> float:
    """The bits of information in stories, from their text alone. NoStory: the grammar tells no such text."""
    return sum(_read(text) for text in texts)


def _read(text: str) -> float:
    reader = Reader(text)
    story(reader)
    reader.finish()
    return reader.bits
