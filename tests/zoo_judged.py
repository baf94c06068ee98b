"""The judge's real session of a row of the zoo, behind the walls that are here, and what is made of what it found."""

import os
import pickle
import re
import shlex
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from agent import reach
from agent import track as tracks
from agent.judge import hidden as hidden_text
from agent.judge import protocol
from agent.judge.candidate import Candidate, Files
from agent.judge.task import Auditing, Measured, Strength, Task
from agent.records import Finding
from tests.candidates import honest
from tests.filling import measurement
from tests.judging import NOBODY_READ, make_job, run_session, write_documents
from tests.zoo import TINY_VALIDATION, Cheat, Corpus, Oddity, package, texts

ALSO = re.compile(r"(\w+)(?:,| too)")
CANARY = "a-program-ran"
CARRIES = ("text_in_artifact", "shrinks_the_rest", "text_and_ruin")


PART = 0.45  # of generated text, that takes no score below what it holds
PIECE = 1_500  # characters of a literal that is no sign


def judged_oddity(folder: Path, odd: Oddity, strength: Strength) -> Measured:
    known = texts(odd.corpus)
    manifest = {"context": odd.context, "state": odd.state, "numerics": odd.numerics}
    artifact = {"counts": honest.count([text.encode() for text in known.train]), "manifest": manifest}
    if odd.form:
        artifact |= {"form": odd.form, "context": odd.context, "stride": odd.stride}
        task = make_job(folder, texts=known.val, script="honest_forms.py", **artifact)
        return session(folder, task, odd.corpus, strength, uniform=1000)
    task = make_job(folder, texts=known.val, script="odd.py", oddity=odd.name, **artifact)
    return session(folder, task, odd.corpus, strength)


def judged(folder: Path, cheat: Cheat, *shown: str) -> Measured:
    """`shown`: what it could read if there were holes in the walls."""
    task = made_job(folder, cheat)
    return session(folder, task, cheat.corpus, cheat.strength, *shown, uniform=cheat.uniform)


def made_job(folder: Path, cheat: Cheat) -> Task:
    known = texts(cheat.corpus)
    where, _, how = (cheat.how or f"cheats:{cheat.name}").rpartition(":")
    whole, carries = "".join(known.val), how in CARRIES and where != "split"
    artifact = {
        "how" if where == "hostile" else "cheat": how,
        "manifest": {"state": cheat.state, "context": cheat.context},
        "counts": honest.count([text.encode() for text in known.train]),
        "smuggled": whole[: int(PART * len(whole)) if cheat.name == "part_and_ruin" else None] if carries else "",
        "scored_bytes": len(whole.encode()),
        "pieces": known.val if cheat.name == "text_in_tokenizer" else [],
        "places": places(folder, cheat),
    }
    task = make_job(folder, texts=known.val, script=f"{where}.py", **artifact)
    if where == "split":
        Path(task.script).write_text(f"{split('TEXT', ''.join(known.val))}\n{SPLIT}")
    if cheat.name == "pickled_artifact":
        Path(task.artifact).write_bytes(pickle.dumps((RunsWhereItIsRead(folder / CANARY), artifact)))
    return task


SPLIT = """
import cheats, honest

honest.serve(cheats.Cheat({**cheats.load(), "smuggled": "".join(TEXT)}))
"""


def split(name: str, text: str) -> str:
    """A list of literals, none of which is long."""
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    return f"{name} = [\n" + "".join(f"    {piece!r},\n" for piece in pieces) + "]\n"


def session(
    folder: Path, task: Task, corpus: Corpus, strength: Strength, *shown: str, uniform: int | None = None
) -> Measured:
    """The real one, behind the walls that are here, with the tiny track's packages."""
    assert task.documents is not None
    hidden = write_documents(folder / "hidden.jsonl", texts(corpus).hidden)
    return run_session(
        task,
        documents=replace(task.documents, floor_bits=texts(corpus).floor_bits),
        policy=replace(reach.scoring(tracks.load("tiny", folder)[0], NOBODY_READ), read=shown),
        hidden=hidden,
        chunk_tokens=3000,
        wall_s=120,
        auditing=Auditing(strength),
        uniform=uniform,
    )


def beside(found: Measured, plain: Measured) -> tuple[Finding, ...]:
    """What is found of a run beside an honest one."""
    one, other = (
        replace(measurement(1, 2.0), doc_nats=of.doc_nats, hidden_nats=of.hidden_nats) for of in (found, plain)
    )
    return hidden_text.findings(one, [other])


def places(folder: Path, cheat: Cheat) -> list[str]:
    """Where it looks for the text. It knows everything but what it is not shown."""
    if cheat.name == "text_in_packages":
        return [str(package("sqlalchemy").parent / path) for path in TINY_VALIDATION]
    return [str(folder / "docs.jsonl")] if cheat.name == "text_on_disk" else []


def careless(folder: Path, cheat: Cheat) -> float:
    """Nats that a judge would sum up who decodes nothing, counts no answers and leaves out what is no number."""
    known, task = texts(cheat.corpus), made_job(folder / "job", cheat)
    files = Files(Path(task.artifact).read_bytes(), Path(task.script).read_bytes())
    deadline = time.monotonic() + 60
    with Candidate(task, files, "encode", deadline) as encoder:
        coded = [encoder.ask(protocol.ENCODE, one.encode(), protocol.TOKENS, 1 << 20) for one in known.val]
    tokens = [np.frombuffer(one, dtype="<u4") for one in coded]
    starts = np.cumsum([0, *map(len, tokens)])[:-1]
    with Candidate(task, files, "score", deadline) as scorer:
        scorer.ask(protocol.RESET, protocol.reset(0), protocol.MANIFEST, 1 << 20)
        asked = protocol.score(np.concatenate(tokens), sorted({int(one) for one in starts}))
        nats = np.frombuffer(scorer.ask(protocol.SCORE, asked, protocol.NATS, 1 << 20), dtype="<f4")
    return float(nats[np.isfinite(nats)].sum(dtype=np.float64))


class RunsWhereItIsRead:
    """A pickle that runs a program where it is read."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"echo it ran; touch {shlex.quote(str(self._mark))}",)


def proven(found: Measured) -> list[str]:
    """Rules that a second process bore out: of a finding, and those that it names beside its own."""
    named = [(one.rule, one.text) for one in found.findings if one.severity == "invalid"]
    return [rule for rule, text in named for rule in (rule, *ALSO.findall(text.rpartition("; ")[2]))]
