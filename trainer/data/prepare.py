"""One door to every corpus: made on this machine, or downloaded.

Takes the name of a corpus, its folder and what is particular to it; gives the `Manifest` of a folder that
is ready.
"""

import math
import secrets
from pathlib import Path

from agent.errors import UserError
from trainer.data import docs, sources, synth
from trainer.data.manifest import CORPORA, Manifest, data_sha, write
from trainer.data.place import Say, place, place_in_parts, write_seed, write_texts

HIDDEN = "hidden.jsonl"  # beside the validation documents, where the judge alone reads


def prepare(
    corpus: str,
    folder: Path,
    *,
    say: Say = print,
    remake: bool = False,
    verify: bool = False,
    variant: str = "sp1024",
    train_shards: int = 1,
    keep_back: bool = False,
    seed: int | None = None,
) -> Manifest:
    """The corpus in `folder`; made or downloaded if it is not there, or not intact.

    `remake` makes a corpus anew that is intact, `verify` reads downloaded shards again in full. `variant`,
    `train_shards` and `keep_back` (a shard more, for hidden documents) belong to fineweb, `seed` (of the validation
    stories; drawn if not given) to synth.
    """
    folder = folder.resolve()
    if corpus == "docs":
        manifest = place(folder, make_docs, say, remake=remake)
        _compare_versions(manifest, say)
        return manifest
    if corpus == "synth":
        return place(folder, lambda fresh, tell: make_synth(fresh, tell, seed), say, remake=remake)
    if corpus == "fineweb":
        return _fetch(folder, variant, train_shards, say, verify=verify, keep_back=keep_back)
    raise UserError(f"no corpus {corpus!r}; there are {', '.join(CORPORA)}")


def make_docs(folder: Path, say: Say) -> None:
    texts = docs.build(say)
    train, val = write_texts(folder, "train", texts.train), write_texts(folder, "val", texts.val)
    hidden = write_texts(folder, "val", texts.hidden, name=HIDDEN) if texts.hidden else None
    write(Manifest("docs", texts.versions, train, val, data_sha("docs", train, val, None), hidden=hidden), folder)


def _compare_versions(manifest: Manifest, say: Say) -> None:
    """A corpus outlives the packages it was made from, so that scores stay comparable; but that is said."""
    now = sources.installed_versions()
    changed = [
        f"{name} {version} (now {now.get(name, 'not installed')})"
        for name, version in manifest.versions.items()
        if now.get(name) != version
    ]
    if changed:
        say(f"docs: made from {', '.join(changed)}; kept, so that scores compare. --remake makes it anew.")


def make_synth(folder: Path, say: Say, seed: int | None = None) -> None:
    """Validation stories come from a seed that is drawn here and kept with them: candidates never see it."""
    seed = secrets.randbits(128) if seed is None else seed
    say(f"synth: telling {synth.TRAINING_BYTES / 1e6:.0f} MB of stories")
    train = write_texts(folder, "train", synth.tell(synth.TRAINING_SEED, synth.TRAINING_BYTES).texts)
    stories = synth.tell(seed, synth.VALIDATION_BYTES)
    read = synth.information(stories.texts)
    if not math.isclose(read, stories.bits, rel_tol=1e-9):
        raise AssertionError(f"the stories were told with {stories.bits} bits and read with {read}")
    val = write_texts(folder, "val", stories.texts, more=(write_seed(folder, seed),))
    hidden = write_texts(folder, "val", list(synth.tell(seed + 1, synth.HIDDEN_BYTES).texts), name=HIDDEN)
    floor = math.floor(read * 1e6) / 1e6  # below rounding, so that it stays a floor
    named = data_sha("synth", train, val, floor)
    manifest = Manifest("synth", {}, train, val, named, floor_bits=floor, hidden=hidden)
    write(manifest, folder)


def _fetch(folder: Path, variant: str, train_shards: int, say: Say, *, verify: bool, keep_back: bool) -> Manifest:
    from trainer.data.fineweb import fetch  # late: it needs a package that only some people have

    if train_shards < 1:
        raise UserError(f"--train-shards {train_shards}: at least one is needed")
    return place_in_parts(folder, lambda: fetch(folder, variant, train_shards, say, verify=verify, keep_back=keep_back))
