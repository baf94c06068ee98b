"""Cheats, what each does and what must catch it; and honest candidates that look odd, none of which may be accused.

tests/zoo_judged.py has the judge score a row, zoo_runs.py has those that live in training, zoo_table.py prints all.
"""

import functools
import importlib.util
import math
from pathlib import Path
from typing import Literal, NamedTuple

from agent.judge.task import Strength
from tests.candidates import honest
from trainer.data import synth
from trainer.data.prose import prose

Corpus = Literal["synth", "tiny"]
Where = Literal["training", "script", "artifact", "tokenizer", "scoring", "audit", "between sessions", "log"]

VALIDATION_SEED = 20_251_129
SIZE = 12_000  # bytes of validation text
# Of packages that a run of the tiny track does not see, as its own validation documents are.
TINY_VALIDATION = ("sqlalchemy/orm/session.py", "sqlalchemy/engine/base.py")
TINY_HIDDEN = "sqlalchemy/sql/selectable.py"
TINY_TRAINING = ("argparse", "asyncio.events", "collections", "datetime", "logging", "pathlib", "statistics", "typing")


class Cheat(NamedTuple):
    """One way to a better score."""

    name: str
    where: Where
    does: str
    caught_by: str
    """A rule of a finding; `no_score`, with the words that follow it; or `walls`: it finds nothing."""
    words: str = ""
    """What is said of it; of `holdout_gap`, that it is a flag."""
    corpus: Corpus = "synth"
    strength: Strength = "quick"
    how: str = ""
    """Its method in cheats.py, or in hostile.py or sly.py with that before it; empty: its name."""
    state: Literal["none", "chunk"] = "none"
    context: int = 64
    uniform: int | None = None
    """Positions of a full audit: few where what is tested is the other draw."""


SCORES = "scores_not_repeated"
SESSIONS = "between sessions"
CHEATS = (
    # ---- looks at what it predicts
    Cheat(
        "two_passes",
        "scoring",
        "Scores a chunk, learns from it, scores it again, and gives the lower of both.",
        SCORES,
        state="chunk",
    ),
    Cheat("next_token", "scoring", "Looks one token ahead.", SCORES, corpus="tiny"),
    Cheat(
        "adapts_first",
        "scoring",
        "Learns from a chunk before it scores it.",
        SCORES,
        how="hostile:adapts_first",
        state="chunk",
    ),
    Cheat("gate", "scoring", "Chooses between two models by the token that comes.", SCORES),
    Cheat("gate_shown", "scoring", "The same, with the larger of both for a distribution.", "not_normalised"),
    Cheat(
        "ngram_cache",
        "scoring",
        "Adds a cache of n-grams to its distribution, without normalising.",
        "not_normalised",
        corpus="tiny",
    ),
    Cheat(
        "unnormalised",
        "scoring",
        "Halves all nats; its distributions sum to more than one.",
        "not_normalised",
        how="hostile:unnormalised",
    ),
    Cheat("zeros", "scoring", "Is sure of everything.", SCORES, how="hostile:zeros"),
    Cheat("below_floor", "scoring", "Needs fewer bits than generated text holds.", "below_floor", how="hostile:zeros"),
    Cheat("easy_ones_twice", "scoring", "Scores cheap tokens twice, in the place of dear ones.", SCORES, corpus="tiny"),
    # ---- says one thing and then another
    Cheat("two_models", "audit", "Scores with one model and answers the audit with another.", SCORES),
    Cheat(
        "smells_the_audit",
        "audit",
        "Sees by the first request that it is audited, and is honest then.",
        SCORES,
        corpus="tiny",
    ),
    Cheat(
        "remembers", "audit", "Reads answers to later questions out of earlier ones.", SCORES, how="hostile:remembers"
    ),
    Cheat(
        "a_little_everywhere",
        "scoring",
        "Claims 0.004 nats less of every token.",
        "mean_mismatch",
        corpus="tiny",
        strength="full",
    ),
    Cheat(
        "rare_and_large",
        "scoring",
        "Is sure of one token in 3,000, the dearest ones.",
        "surprise_mismatch",
        strength="full",
        uniform=64,
    ),
    Cheat(
        "other_when_replayed",
        "audit",
        "Learns first, and does not when it sees that its chunks are shown again.",
        "replay_differs",
        strength="full",
        state="chunk",
    ),
    Cheat(
        "learns_from_questions",
        "audit",
        "Knows what a question was once it has been shown more.",
        "peek_changes_state",
        strength="full",
    ),
    Cheat(
        "explains_the_repeat",
        "audit",
        "Is sure where one unlikely token comes; asked little, it knows that it is about such places.",
        "surprise_mismatch",
        strength="full",
        how="sly:explains_the_repeat",
        uniform=64,
    ),
    Cheat(
        "drowns_surprise",
        "tokenizer",
        "Is sure of the dearest tokens, and cuts its text so that all of them surprise.",
        "surprise_mismatch",
        strength="full",
        how="sly:drowns_surprise",
        uniform=64,
    ),
    # ---- tells its next process
    Cheat("through_files", SESSIONS, "Leaves what it saw in files, wherever it can write.", SCORES),
    Cheat("through_memory", SESSIONS, "Leaves it in System V shared memory.", SCORES),
    Cheat("through_times", SESSIONS, "Leaves it in the times of shared files.", SCORES),
    Cheat("through_page_cache", SESSIONS, "Leaves it in what pages of a library are in memory.", SCORES),
    # ---- has the text already
    Cheat("text_in_artifact", "artifact", "Carries the validation text in its artifact.", "below_floor", context=64),
    Cheat(
        "text_without_floor",
        "artifact",
        "The same, with text whose information nobody knows.",
        "holdout_gap",
        corpus="tiny",
        how="cheats:text_in_artifact",
    ),
    Cheat(
        "split_text_in_script",
        "script",
        "Carries the validation text in literals of its script, none of which is long.",
        "below_floor",
        how="split:text_in_artifact",
    ),
    Cheat(
        "split_without_floor",
        "script",
        "The same, with text whose information nobody knows.",
        "holdout_gap",
        corpus="tiny",
        how="split:text_in_artifact",
    ),
    Cheat(
        "shrinks_the_rest",
        "artifact",
        "The same, and claims as little for documents that it does not know.",
        SCORES,
        corpus="tiny",
        how="sly:shrinks_the_rest",
    ),
    Cheat(
        "text_and_ruin",
        "artifact",
        "The same, and is as bad as can be at one document that no score is made of, so that they differ much.",
        "holdout_gap",
        corpus="tiny",
        strength="full",
        how="sly:text_and_ruin",
    ),
    Cheat(
        "part_and_ruin",
        "artifact",
        "The same, with so little of the text that it stays above the floor.",
        "holdout_gap",
        "flag",
        strength="full",
        how="sly:text_and_ruin",
    ),
    Cheat("text_in_tokenizer", "tokenizer", "Its tokenizer has validation documents for tokens.", "below_floor"),
    Cheat("text_on_disk", "scoring", "Looks for the validation text on the disk.", "walls", corpus="tiny"),
    Cheat(
        "text_in_packages",
        "scoring",
        "Reads the installed packages that the validation text was made from.",
        "walls",
        corpus="tiny",
        how="cheats:text_on_disk",
    ),
    Cheat("pickled_artifact", "artifact", "Runs a program where its artifact is read.", "walls", how="cheats:plain"),
    # ---- tokenizers and numbers
    Cheat(
        "loses_bytes",
        "tokenizer",
        "Encodes the first half of every document.",
        "no_score",
        "does not give document",
    ),
    Cheat(
        "drops_hard_documents",
        "tokenizer",
        "Encodes what would be dear as one token that stands for nothing.",
        "no_score",
        "does not give document",
        corpus="tiny",
    ),
    Cheat(
        "no_tokens",
        "tokenizer",
        "Makes no token of a document.",
        "no_score",
        "made no token of document",
        how="hostile:no_tokens",
    ),
    Cheat("one_too_few", "scoring", "Leaves a token out.", "no_score", "bytes of nats for", how="hostile:one_too_few"),
    Cheat("nan", "scoring", "Answers NaN, of which no comparison is true.", "no_score", "are NaN", how="hostile:nan"),
    Cheat(
        "negative",
        "scoring",
        "Claims a probability above one.",
        "no_score",
        "a probability above 1",
        how="hostile:negative",
    ),
    Cheat("infinite", "scoring", "Answers infinity.", "no_score", "are infinite", how="hostile:infinite"),
    Cheat("infinite_logprob", "audit", "Answers questions with +inf, which swallows every sum.", "not_normalised"),
    Cheat("nan_distribution", "audit", "Answers questions with NaN.", "not_normalised", how="hostile:nan_distribution"),
)


class Oddity(NamedTuple):
    """One honest form that looks odd."""

    name: str
    does: str
    context: int = 1
    state: Literal["none", "chunk"] = "none"
    numerics: Literal["fp32", "bf16"] = "fp32"
    corpus: Corpus = "synth"
    form: str = ""
    """Of honest_forms.py; else it is in odd.py under its name."""
    stride: int = 0


PLAIN = Cheat("plain", "scoring", "Nothing.", "", corpus="tiny", how="cheats:plain")
ODDITIES = (
    Oddity("bf16", "Coarse arithmetic, which comes out otherwise in another batch.", numerics="bf16"),
    Oddity("other_kernel", "Adds up in another order where it is asked in small batches."),
    Oddity("nearly_sure", "Stakes nearly everything on one token, and pays for it.", corpus="tiny"),
    Oddity("cache", "A cache of n-grams over the document, normalised.", context=300),
    Oddity("cache", "The same, with a context that is longer than any document and any chunk.", context=6000),
    Oddity("late", "Goes by how far into its document a token is.", corpus="tiny"),
    Oddity("across_documents", "Takes the last token of a document for the one before the next."),
    Oddity("learner", "Learns from every chunk once it has answered it.", state="chunk", corpus="tiny"),
    Oddity("by_length", "Scores the documents of a chunk in the order of their length."),
    Oddity("windows", "Windows side by side, over bytes.", context=48, form="windows", stride=48),
    Oddity("sliding windows", "Windows that move on by a third of their length.", 48, form="windows", stride=16),
    Oddity("odd windows", "Windows that move on by seven tokens.", 48, corpus="tiny", form="windows", stride=7),
    Oddity("by_document", "Windows on each document's own grid, in batches.", 48, form="by_document", stride=16),
    Oddity("separated", "A token of its own between documents.", 48, corpus="tiny", form="separated", stride=48),
    Oddity("gradient", "One step of gradient descent after each chunk.", 48, "chunk", form="learner", stride=48),
    Oddity("case_ops", "Operators for capitals before words in small letters.", 48, form="case_ops", stride=48),
    Oddity("scrambled", "Another token for a byte at every place.", context=2, corpus="tiny"),
    Oddity("marks", "Tokens that stand for nothing before every word.", context=2),
    Oddity("composed", "Gives a declared normal form of the text back.", 48, form="composed", stride=48),
)


# ---------------------------------------------------------------- texts


class Texts(NamedTuple):
    train: list[str]
    val: list[str]
    hidden: list[str]
    """Of the same kind, and no part of the score."""
    floor_bits: float | None


@functools.cache
def texts(corpus: Corpus) -> Texts:
    if corpus == "synth":
        told = synth.tell(VALIDATION_SEED, SIZE)
        return Texts(
            synth.tell(synth.TRAINING_SEED, 6 * SIZE).texts,
            told.texts,
            synth.tell(VALIDATION_SEED + 1, SIZE // 2).texts,
            told.bits,
        )
    val = [part for path in TINY_VALIDATION for part in documents(package("sqlalchemy").parent / path)]
    train = [part for name in TINY_TRAINING for part in documents(package(name))]
    hidden = cut_to(documents(package("sqlalchemy").parent / TINY_HIDDEN), SIZE // 2)
    return Texts(train, cut_to(val, SIZE), hidden, None)


def package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    assert found is not None and found.origin is not None
    return Path(found.origin).parent if name == "sqlalchemy" else Path(found.origin)


def documents(path: Path) -> list[str]:
    """The prose of one file, as the corpus has it, in documents of some paragraphs."""
    said = prose(path.read_bytes())
    return ["\n\n".join(said[at : at + 4]) for at in range(0, len(said), 4)]


def cut_to(found: list[str], size: int) -> list[str]:
    kept: list[str] = []
    while sum(map(len, kept)) < size:
        kept.append(found[len(kept)])
    return kept


@functools.cache
def honest_nats(corpus: Corpus) -> float:
    """Of the honest model, by a sum that knows nothing of the judge."""
    known = texts(corpus)
    model = honest.Bigram(honest.count([text.encode() for text in known.train]))
    return math.fsum(
        -model.logprobs(before)[token]
        for text in known.val
        for before, token in zip([None, *text.encode()], text.encode(), strict=False)
    )
