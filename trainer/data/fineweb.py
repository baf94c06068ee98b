"""The `fineweb` corpus: the contest's published token shards and tokenizer, downloaded and checked.

Takes a variant (whose tokens) and a number of training shards; gives a corpus folder in the official layout,
`datasets/fineweb10B_<variant>/fineweb_{train,val}_*.bin` and `tokenizers/`. Each file is compared with the
size and checksum that the hub has for it, each shard with its header, before it takes its place. A download
that was interrupted goes on where it stopped.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ValidationError

from agent.errors import MissingError, UserError
from trainer.data.hub import Hub, Remote
from trainer.data.manifest import (
    PARTIAL,
    Damaged,
    File,
    Manifest,
    Part,
    data_sha,
    load,
    sha_of,
    sha_over,
    write,
)
from trainer.data.place import Say
from trainer.data.shards import ShardError, count_tokens

REPOSITORY = "willdepueoai/parameter-golf"
ROOT = "datasets/"
PREFIX = "fineweb10B_"
KEPT_BACK = "datasets/kept_back/"  # beside the folder that training reads, so that none of it is there
# Left free on the disk, for logs and the runs to come.
SPARE_BYTES = 1 << 28


class Stats(BaseModel):
    files_train: int
    files_val: int


class Dataset(BaseModel):
    name: str
    tokenizer_name: str
    stats: Stats


class Tokenizer(BaseModel):
    name: str
    model_path: str | None = None
    vocab_path: str | None = None
    path: str | None = None


class Export(BaseModel):
    """The hub's own manifest: which datasets are published, with which tokenizers."""

    datasets: list[Dataset]
    tokenizers: list[Tokenizer]

    def dataset(self, variant: str) -> Dataset:
        for dataset in self.datasets:
            if dataset.name == PREFIX + variant:
                return dataset
        names = ", ".join(sorted(dataset.name.removeprefix(PREFIX) for dataset in self.datasets))
        raise UserError(f"{REPOSITORY} has no variant {variant!r}; there are {names}")

    def tokenizer_files(self, name: str) -> list[str]:
        for tokenizer in self.tokenizers:
            if tokenizer.name == name:
                return [path for path in (tokenizer.model_path, tokenizer.vocab_path, tokenizer.path) if path]
        raise MissingError(f"{REPOSITORY} names no files for tokenizer {name!r}")


@dataclass(frozen=True)
class Plan:
    """All files of a corpus, by where they go in the folder."""

    train: dict[str, Remote]
    val: dict[str, Remote]
    extra: dict[str, Remote]
    hidden: dict[str, Remote]

    def files(self) -> dict[str, Remote]:
        return {**self.extra, **self.val, **self.train, **self.hidden}


def fetch(
    folder: Path, variant: str, train_shards: int, say: Say, *, verify: bool = False, keep_back: bool = False
) -> Manifest:
    """The corpus in `folder`, downloaded as far as it is not there. Shards that are there stay and count.

    `keep_back`: with the last published training shard, which training never sees, if it is not asked for anyway.
    """
    known = _known(folder, say, verify=verify)
    if known and known.variant != variant:
        raise UserError(f"{folder} holds variant {known.variant}: give another place for {variant} with --out")
    train_shards = max(train_shards, _present(folder / "datasets" / (PREFIX + variant)))
    keep_back = keep_back or bool(known and known.hidden)
    whole = known if known and len(known.train.files) == train_shards else None
    if whole and (whole.hidden or not keep_back):
        return whole
    try:
        return _download_all(folder, variant, train_shards, say, known, keep_back=keep_back)
    except MissingError as error:
        if whole is None:
            raise
        say(f"fineweb: no shard is kept back, so there are no hidden documents: {error}")
        return whole


def _download_all(
    folder: Path, variant: str, train_shards: int, say: Say, known: Manifest | None, *, keep_back: bool
) -> Manifest:
    """What is not there yet, and the manifest of it all."""
    # More shards of an export come from the commit that the first ones came from.
    hub = Hub(REPOSITORY, known.versions.get("commit") if known else None)
    plan = _plan(hub, _export(hub, folder), variant, train_shards, say if keep_back else None)
    missing = {path: remote for path, remote in plan.files().items() if not remote.is_at(folder / path)}
    _check_space(folder, missing, say)
    for number, (path, remote) in enumerate(missing.items(), 1):
        say(f"fineweb: {number} of {len(missing)}: {path} ({remote.size / 1e6:,.1f} MB)")
        _place(hub, remote, folder, path)
    manifest = _describe(folder, plan, variant, hub.commit)
    write(manifest, folder)
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    return manifest


def _known(folder: Path, say: Say, *, verify: bool) -> Manifest | None:
    try:
        return load(folder, verify=verify)
    except MissingError:
        return None
    except Damaged as damage:
        say(f"{damage}; downloading what is missing")
        return None


def _present(shards: Path) -> int:
    """How many training shards are needed to cover those in the folder."""
    numbers = [path.stem.rpartition("_")[2] for path in shards.glob("fineweb_train_*.bin")]
    return max((int(number) + 1 for number in numbers if number.isdigit()), default=0)


def _export(hub: Hub, folder: Path) -> Export:
    (remote,) = hub.describe([ROOT + "manifest.json"])
    partial = folder / PARTIAL / "manifest.json"
    _download(hub, remote, partial)
    try:
        return Export.model_validate_json(partial.read_bytes())
    except ValidationError as error:
        raise MissingError(f"{REPOSITORY} has a manifest that can't be read: {error}") from error


def _plan(hub: Hub, export: Export, variant: str, train_shards: int, keep_back: Say | None) -> Plan:
    dataset = export.dataset(variant)
    if train_shards > dataset.stats.files_train:
        raise UserError(f"{variant} has {dataset.stats.files_train} training shards, {train_shards} were asked for")
    shards = f"datasets/{dataset.name}/fineweb_"
    train = [f"{shards}train_{number:06d}.bin" for number in range(train_shards)]
    val = [f"{shards}val_{number:06d}.bin" for number in range(dataset.stats.files_val)]
    extra = export.tokenizer_files(dataset.tokenizer_name)
    for path in extra:
        if PurePosixPath(path).parts[:1] != ("tokenizers",) or ".." in PurePosixPath(path).parts:
            raise MissingError(f"{REPOSITORY} keeps a tokenizer in a strange place: {path!r}")
    last = f"{shards}train_{dataset.stats.files_train - 1:06d}.bin"
    hidden = [] if keep_back is None or last in train else [last]
    if keep_back is not None and not hidden:
        keep_back(
            f"fineweb: all {train_shards} training shards are asked for, so none is kept back for hidden documents"
        )
    paths = train + val + extra + hidden
    remotes = dict(zip(paths, hub.describe([ROOT + path for path in paths]), strict=True))
    return Plan(
        train={path: remotes[path] for path in train},
        val={path: remotes[path] for path in val},
        extra={path: remotes[path] for path in extra},
        hidden={KEPT_BACK + PurePosixPath(path).name: remotes[path] for path in hidden},
    )


def _check_space(folder: Path, missing: dict[str, Remote], say: Say) -> None:
    size = sum(remote.size for remote in missing.values())
    there = sum(path.stat().st_size for path in (folder / PARTIAL).rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if size - there + SPARE_BYTES > free:
        raise UserError(
            f"{len(missing)} files of {size / 1e9:,.1f} GB do not fit: "
            f"{folder} has {free / 1e9:,.1f} GB free. "
            "Ask for fewer shards (--train-shards) or give another place (--out)."
        )
    say(f"fineweb: {len(missing)} files to download, {size / 1e9:,.2f} GB")


def _place(hub: Hub, remote: Remote, folder: Path, path: str) -> None:
    partial = folder / PARTIAL / path
    _download(hub, remote, partial)
    if path.endswith(".bin"):
        try:
            count_tokens(partial)
        except ShardError:
            partial.unlink()
            raise
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    partial.replace(folder / path)


def _download(hub: Hub, remote: Remote, partial: Path) -> None:
    """The file, whole and as the hub describes it. A start that was spoilt is thrown away once."""
    resumed = partial.exists()
    hub.download(remote, partial)
    if remote.is_at(partial):
        return
    partial.unlink()
    if resumed:
        hub.download(remote, partial)
        if remote.is_at(partial):
            return
        partial.unlink()
    raise MissingError(
        f"{remote.path} arrived damaged: its checksum is not the one that {hub.repository} gives. "
        "Run the same command again."
    )


def _describe(folder: Path, plan: Plan, variant: str, commit: str) -> Manifest:
    train, val, extra = _part(folder, plan.train), _part(folder, plan.val), _entries(folder, plan.extra)
    return Manifest(
        corpus="fineweb",
        versions={"repository": REPOSITORY, "commit": commit},
        train=train,
        val=val,
        data_sha=data_sha("fineweb", train, val, None, extra),
        variant=variant,
        extra=extra,
        hidden=_part(folder, plan.hidden) if plan.hidden else None,
    )


def _part(folder: Path, remotes: dict[str, Remote]) -> Part:
    files = _entries(folder, remotes)
    tokens = sum(count_tokens(folder / file.path) for file in files)
    return Part(files, None, sum(file.bytes for file in files), sha_over(files), tokens)


def _entries(folder: Path, remotes: dict[str, Remote]) -> tuple[File, ...]:
    return tuple(File(path, remote.size, remote.sha256 or sha_of(folder / path)) for path, remote in remotes.items())
