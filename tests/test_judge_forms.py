"""Every form of scoring that the contract allows, by a real candidate, against sums that know nothing of chunks."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from agent.judge.forms import FORMS, agreeing
from agent.judge.measure import normal_form
from agent.judge.task import Auditing, Measured
from tests.candidates import honest
from tests.judging import TEXTS, make_job, run_session

SAID = ["The Cat saw NASA's iPhone; the OLD dog saw Mr Smith in a NEW-YORK taxi. ", "Ångström, née Müller: e\u0301 "]
COUNTS = honest.count([text.encode() for text in TEXTS[::2]])
Begin = Callable[[int, int], int]  # of a window: from a position and where its document starts


def probability(window: Sequence[int], token: int, vocab: int, weight: float) -> tuple[float, float]:
    """Of the bigram and of the window, not mixed yet."""
    row = COUNTS.get(str(window[-1]) if window else "None", {})
    bigram = (row.get(str(token), 0) + 0.1) / (sum(row.values()) + 0.1 * vocab)
    return bigram, (Counter(window)[token] + 0.2) / (len(window) + 0.2 * vocab)


def nats_of(tokens: Sequence[int], starts: Sequence[int], begin: Begin, vocab: int = 256) -> list[float]:
    """Of each token of the whole stream, one by one."""
    found = []
    for position, token in enumerate(tokens):
        window = tokens[begin(position, max(start for start in starts if start <= position)) : position]
        found.append(-math.log(math.fsum(probability(window, token, vocab, 0.5)) / 2))
    return found


def by_document(nats: Sequence[float], starts: Sequence[int]) -> list[float]:
    return [math.fsum(nats[a:b]) for a, b in zip(starts, [*starts[1:], len(nats)], strict=True)]


def laid_out(texts: Sequence[str], mark: Sequence[int] = ()) -> tuple[list[int], list[int]]:
    tokens: list[int] = []
    starts = []
    for text in texts:
        tokens += mark if tokens else ()
        starts.append(len(tokens))
        tokens += text.encode()
    return tokens, starts


def scored(folder: Path, form: str, texts: Sequence[str] = TEXTS, *, chunk_tokens: int, **artifact: object) -> Measured:
    task = make_job(folder, texts=list(texts), script="honest_forms.py", form=form, **artifact)
    found = run_session(task, chunk_tokens=chunk_tokens)
    assert (found.status, found.findings) == ("ok", ()), found
    assert found.bytes == sum(len(text.encode()) for text in texts), "always the raw ones"
    assert found.audit is not None and found.audit.peeks >= 64 and found.audit.largest_difference < 1e-5
    return found


def sliding(context: int, stride: int) -> Begin:
    """The last window of the grid that holds the position."""
    ends = lambda position: next(end for end in range(stride, 10**6, stride) if end > position)  # noqa: E731
    return lambda position, _: max(0, ends(position) - context)


@pytest.mark.parametrize(
    ("context", "stride", "chunk_tokens"), [(48, 48, 300), (48, 16, 77), (48, 7, 1000), (20, 1, 300), (5000, 5000, 300)]
)
def test_windows_of_any_stride(tmp_path: Path, context: int, stride: int, chunk_tokens: int) -> None:
    """The last of them looks at all that was there before, which leaves one lane for the audit."""
    found = scored(tmp_path, "windows", context=context, stride=stride, chunk_tokens=chunk_tokens)
    tokens, starts = laid_out(TEXTS)
    wanted = by_document(nats_of(tokens, starts, sliding(context, stride)), starts)
    assert found.doc_nats == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("stride", "chunk_tokens"), [(48, 300), (16, 77), (1, 1000)])
def test_documents_at_once_and_on_their_own(tmp_path: Path, stride: int, chunk_tokens: int) -> None:
    """Chunks of 77 tokens cut every longer document at 154, in the middle of a window."""
    found = scored(tmp_path, "by_document", stride=stride, chunk_tokens=chunk_tokens)
    tokens, starts = laid_out(TEXTS)
    begin = sliding(48, stride)
    wanted = nats_of(tokens, starts, lambda position, start: start + begin(position - start, 0))
    assert found.doc_nats == pytest.approx(by_document(wanted, starts), rel=1e-6)


def test_separators_are_scored_and_have_no_bytes(tmp_path: Path) -> None:
    found = scored(tmp_path, "separated", stride=16, chunk_tokens=300)
    tokens, starts = laid_out(TEXTS, mark=[256])
    wanted = nats_of(tokens, starts, sliding(48, 16), vocab=257)
    assert found.tokens == len(tokens) == sum(len(text.encode()) for text in TEXTS) + len(TEXTS) - 1
    assert found.doc_nats == pytest.approx(by_document(wanted, starts), rel=1e-6)
    assert found.manifest is not None and found.manifest.separator == 256


def chunked(starts: Sequence[int], total: int, size: int) -> list[int]:
    """Where chunks end: after the first document that ends past `size` tokens, or after twice that."""
    ends = [0]
    while ends[-1] < total:
        later = [at for at in [*starts, total] if at >= min(ends[-1] + size, total)]
        ends.append(min(later[0], ends[-1] + 2 * size))
    return ends


@pytest.mark.parametrize("chunk_tokens", [77, 600])
def test_what_learns_from_a_chunk_after_it_was_scored(tmp_path: Path, chunk_tokens: int) -> None:
    found = scored(tmp_path, "learner", chunk_tokens=chunk_tokens)
    tokens, starts = laid_out(TEXTS)
    begin, nats, weight, weights = sliding(48, 48), [], 0.5, []
    ends = chunked(starts, len(tokens), chunk_tokens)
    for low, high in pairwise(ends):
        slope = 0.0
        for position in range(low, high):
            bigram, recent = probability(tokens[begin(position, 0) : position], tokens[position], 256, weight)
            mixed = weight * bigram + (1 - weight) * recent
            nats.append(-math.log(mixed))
            slope += (bigram - recent) / mixed
        weight = min(0.95, max(0.05, weight + 0.005 * slope / (high - low)))
        weights.append(weight)
    assert len(set(weights)) == len(weights) > 2 and max(weights) < 0.9, "it does learn"
    assert found.doc_nats == pytest.approx(by_document(nats, starts), rel=1e-5)


def test_operators_for_capitals_lose_nothing_and_bytes_are_those_of_the_text(tmp_path: Path) -> None:
    texts = [*SAID, "I", "NASA", "x", "A1b2 McDONALD É"]
    found = scored(tmp_path, "case_ops", texts, chunk_tokens=300)
    words = re.compile(r"(?<![A-Za-z])(?:[A-Z][a-z]*|[A-Z]+)(?![A-Za-z])")  # Cat, NASA, I; not iPhone, not McDONALD
    operators = sum(len(words.findall(text)) for text in texts)
    assert operators == 12
    assert found.tokens == (found.bytes or 0) + operators


def test_bytes_are_a_vocabulary(tmp_path: Path) -> None:
    found = scored(tmp_path, "windows", chunk_tokens=300)
    assert found.manifest is not None and found.manifest.vocab == 256 and found.tokens == found.bytes


@pytest.mark.parametrize("form", ["by_document", "learner", "separated", "case_ops", "composed"])
def test_a_full_audit_finds_nothing_against_any_form(tmp_path: Path, form: str) -> None:
    task = make_job(tmp_path, texts=[*TEXTS, *SAID], script="honest_forms.py", form=form, stride=16)
    found = run_session(task, auditing=Auditing("full"), uniform=400, surprising=60, chunk_tokens=300, wall_s=60)
    assert (found.status, found.findings) == ("ok", ()), found
    assert found.audit is not None and found.audit.strength == "full" and found.audit.uniform > 300
    assert found.audit.largest_difference < 1e-5
    assert found.audit.reference_sha is not None, "some documents at least are laid out over their bytes"


# ---------------------------------------------------------------- normal forms

NFC, NFKC = frozenset({"nfc"}), frozenset({"nfkc"})


@pytest.mark.parametrize(
    ("text", "found", "forms"),
    [
        ("abc", "abc", FORMS),
        ("e\u0301", "e\u0301", FORMS),  # whoever gives the text itself back is right under each
        ("e\u0301", "\u00e9", frozenset({"nfc", "nfkc"})),
        ("e\u0301 \ufb01", "\u00e9 \ufb01", NFC),
        ("e\u0301 \ufb01", "\u00e9 fi", NFKC),
        ("\ufb01", "fi", NFKC),
        ("Abc", "abc", frozenset()),
        ("a  b", "a b", frozenset()),
        ("abc", "abcd", frozenset()),
    ],
)
def test_which_forms_allow_an_answer(text: str, found: str, forms: frozenset[str]) -> None:
    assert agreeing(text.encode(), found.encode(), FORMS) == forms
    assert agreeing(text.encode(), found.encode(), NFC) == forms & NFC  # type: ignore[arg-type]


def test_a_declared_normal_form_is_allowed_and_stored(tmp_path: Path) -> None:
    found = scored(tmp_path, "composed", [*TEXTS, *SAID], chunk_tokens=300)
    composed = [unicodedata.normalize("NFC", text).encode() for text in [*TEXTS, *SAID]]
    assert found.tokens == sum(map(len, composed)) < (found.bytes or 0)
    (note,) = normal_form(found)
    assert (note.rule, note.severity) == ("normal_form", "note") and "'nfc'" in note.text
    assert found.manifest is not None
    looser = replace(found, manifest=replace(found.manifest, normal_form="nfkc"))
    assert [(one.rule, one.severity) for one in normal_form(looser)] == [("normal_form", "flag")]
    assert normal_form(replace(found, manifest=replace(found.manifest, normal_form="none"))) == []


def test_a_normal_form_must_be_declared(tmp_path: Path) -> None:
    task = make_job(tmp_path, texts=[*TEXTS, *SAID], script="hostile.py", how="composes")
    found = run_session(task)
    assert found.status == "failed" and "normal form 'none'; they come back as 'nfc' or 'nfkc'" in found.reason
    found = run_session(make_job(tmp_path / "b", texts=["Abc"], how="small_letters", manifest={"normal_form": "nfc"}))
    assert found.status == "failed" and "does not give document 0 back: the first wrong byte is at 0" in found.reason
    found = run_session(make_job(tmp_path / "c", how="plain", manifest={"normal_form": "lower"}))
    assert found.status == "failed" and "'lower' is none of" in found.reason
