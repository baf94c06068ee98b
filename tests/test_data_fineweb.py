"""The FineWeb download, against a hub on loopback, in processes of their own; and the shard format."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE

from agent.errors import UserError
from tests.local_hub import COMMIT, LocalHub
from tests.shards import write_shard
from trainer.data import Manifest, load, prepare
from trainer.data.shards import HEADER_BYTES, MAGIC, ShardError, count_tokens

REPOSITORY = "willdepueoai/parameter-golf"
SHARDS = "datasets/fineweb10B_sp1024/fineweb_"
ON_HUB = "datasets/"


def shard(folder: Path, count: int, seed: int) -> bytes:
    path = folder / "made.bin"
    write_shard(path, np.random.default_rng(seed).integers(0, 1024, count))
    return path.read_bytes()


@pytest.fixture
def hub(tmp_path: Path):
    dataset = {"name": "fineweb10B_sp1024", "tokenizer_name": "sp_bpe_1024"}
    export = {
        "version": "10B",
        "datasets": [
            dataset | {"stats": {"files_train": 3, "files_val": 1, "tokens_train": 1}},
            dataset | {"name": "fineweb10B_sp4096", "stats": {"files_train": 2, "files_val": 1}},
        ],
        "tokenizers": [
            {
                "name": "sp_bpe_1024",
                "model_path": "tokenizers/fineweb_1024_bpe.model",
                "vocab_path": "tokenizers/fineweb_1024_bpe.vocab",
            }
        ],
    }
    files = {
        "manifest.json": json.dumps(export).encode(),
        "tokenizers/fineweb_1024_bpe.model": b"\n\x0e\n\x05model" * 50,
        "tokenizers/fineweb_1024_bpe.vocab": b"<pad>\t0\n<s>\t0\n",
        f"{SHARDS}val_000000.bin": shard(tmp_path, 5_000, 0),
        **{f"{SHARDS}train_{n:06d}.bin": shard(tmp_path, 20_000 + n, n + 1) for n in range(3)},
    }
    with LocalHub(REPOSITORY, {ON_HUB + path: content for path, content in files.items()}) as local:
        yield local


def command(hub: LocalHub, folder: Path, *options: str) -> tuple[list[str], dict[str, str]]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    env |= {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(folder.parent / "home"),
        "NO_PROXY": "127.0.0.1,localhost",
    }
    return [sys.executable, "-m", "trainer.data", "--out", str(folder), *options], env


def fetch(hub: LocalHub, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    argv, env = command(hub, folder, *options)
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)


def same(hub: LocalHub, folder: Path, manifest: Manifest) -> None:
    for file in manifest.files():
        assert (folder / file.path).read_bytes() == hub.files[ON_HUB + file.path]


def test_a_download_has_the_official_layout_and_grows_by_what_is_missing(hub: LocalHub, tmp_path: Path):
    folder = tmp_path / "fineweb"
    done = fetch(hub, folder, "--train-shards", "1")
    assert done.returncode == 0, done.stderr
    manifest = load(folder)
    same(hub, folder, manifest)
    assert [file.path for file in manifest.files()] == [
        f"{SHARDS}train_000000.bin",
        f"{SHARDS}val_000000.bin",
        "tokenizers/fineweb_1024_bpe.model",
        "tokenizers/fineweb_1024_bpe.vocab",
    ]
    assert (manifest.train.tokens, manifest.val.tokens) == (20_000, 5_000)
    assert manifest.versions["commit"] == COMMIT
    assert manifest.data_sha in done.stdout
    assert "1 of 4" in done.stderr and "4 of 4" in done.stderr
    assert not (folder / ".part").exists()

    before = len(hub.seen)
    assert fetch(hub, folder, "--train-shards", "1").returncode == 0
    assert len(hub.seen) == before, "what is there is not asked for again"

    assert fetch(hub, folder, "--train-shards", "3").returncode == 0
    more = load(folder)
    same(hub, folder, more)
    assert more.train.tokens == 20_000 + 20_001 + 20_002
    assert more.data_sha != manifest.data_sha
    assert len(hub.ranges(f"{ON_HUB}{SHARDS}train_000000.bin")) == 1
    # Fewer than there are: all of them stay part of the corpus.
    assert fetch(hub, folder, "--train-shards", "2").returncode == 0
    assert load(folder) == more


KEEPS_BACK = """
import sys
from pathlib import Path
from trainer.data import prepare
prepare("fineweb", Path(sys.argv[1]), train_shards=int(sys.argv[2]), keep_back=sys.argv[3] == "keep")
"""


def test_the_last_shard_is_kept_back_where_training_does_not_look(hub: LocalHub, tmp_path: Path):
    folder = tmp_path / "fineweb"

    def keeping(shards: int, keep: str = "keep") -> tuple[Manifest, str]:
        argv, env = command(hub, folder)
        argv = [argv[0], "-c", KEEPS_BACK, str(folder), str(shards), keep]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return load(folder), done.stdout

    plain, _ = keeping(1, "")
    kept, _ = keeping(1)
    assert kept.hidden is not None and plain.hidden is None and kept.data_sha == plain.data_sha
    (file,) = kept.hidden.files
    assert file.path == "datasets/kept_back/fineweb_train_000002.bin" and kept.hidden.tokens == 20_002
    assert (folder / file.path).read_bytes() == hub.files[f"{ON_HUB}{SHARDS}train_000002.bin"]
    assert sorted(path.name for path in (folder / SHARDS).parent.glob("*train*")) == ["fineweb_train_000000.bin"]
    before = len(hub.seen)
    assert keeping(1)[0] == kept and keeping(1, "")[0] == kept and len(hub.seen) == before
    assert keeping(2, "")[0].hidden == kept.hidden
    whole, said = keeping(3)
    assert whole.hidden is None and "all 3 training shards are asked for, so none is kept back" in said


def test_a_cut_connection_goes_on_with_a_range_request(hub: LocalHub, tmp_path: Path):
    path = f"{ON_HUB}{SHARDS}train_000000.bin"
    # The library takes 10 MB at a time, so that the shard must be larger.
    hub.files[path] = shard(tmp_path, 12_000_000, 9)
    hub.cut[path] = DOWNLOAD_CHUNK_SIZE + 10_000
    done = fetch(hub, tmp_path / "fineweb")
    assert done.returncode == 0, done.stderr
    assert hub.ranges(path) == [None, f"bytes={DOWNLOAD_CHUNK_SIZE}-"]
    same(hub, tmp_path / "fineweb", load(tmp_path / "fineweb"))


def test_a_killed_download_goes_on_where_it_stopped(hub: LocalHub, tmp_path: Path):
    path, folder = f"{SHARDS}train_000000.bin", tmp_path / "fineweb"
    hub.files[ON_HUB + path] = shard(tmp_path, 12_000_000, 9)
    hub.stall[ON_HUB + path] = DOWNLOAD_CHUNK_SIZE + 10_000
    argv, env = command(hub, folder)
    partial = folder / ".part" / path
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not partial.exists() or partial.stat().st_size < DOWNLOAD_CHUNK_SIZE:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (folder / path).exists() and not (folder / "manifest.json").exists()
    there = partial.stat().st_size
    hub.released.set()
    done = fetch(hub, folder)
    assert done.returncode == 0, done.stderr
    assert hub.ranges(ON_HUB + path) == [None, f"bytes={there}-"]
    assert len(hub.ranges(f"{ON_HUB}{SHARDS}val_000000.bin")) == 1
    same(hub, folder, load(folder))


def test_a_spoilt_start_is_thrown_away(hub: LocalHub, tmp_path: Path):
    path, folder = f"{SHARDS}train_000000.bin", tmp_path / "fineweb"
    (folder / ".part" / path).parent.mkdir(parents=True)
    (folder / ".part" / path).write_bytes(b"\0" * 5_000)
    done = fetch(hub, folder)
    assert done.returncode == 0, done.stderr
    assert hub.ranges(ON_HUB + path) == ["bytes=5000-", None]
    same(hub, folder, load(folder))


@pytest.mark.parametrize("path", [f"{SHARDS}train_000000.bin", "tokenizers/fineweb_1024_bpe.vocab"])
def test_a_damaged_file_never_takes_its_place(hub: LocalHub, tmp_path: Path, path: str):
    folder = tmp_path / "fineweb"
    hub.damaged.add(ON_HUB + path)
    done = fetch(hub, folder)
    assert done.returncode == 5
    assert f"{path} arrived damaged" in done.stderr
    assert not (folder / path).exists() and not (folder / "manifest.json").exists()
    hub.damaged.clear()
    assert fetch(hub, folder).returncode == 0
    same(hub, folder, load(folder))


def test_a_file_that_is_no_shard_is_refused_although_its_checksum_is_right(hub: LocalHub, tmp_path: Path):
    path = f"{SHARDS}val_000000.bin"
    hub.files[ON_HUB + path] = hub.files[ON_HUB + path][:-2]
    done = fetch(hub, tmp_path / "fineweb")
    assert done.returncode == 2
    assert "its header says 5,000 tokens" in done.stderr
    assert not (tmp_path / "fineweb" / path).exists()


def test_a_shard_damaged_later_is_found_and_fetched_again(hub: LocalHub, tmp_path: Path):
    folder = tmp_path / "fineweb"
    assert fetch(hub, folder).returncode == 0
    path = folder / f"{SHARDS}train_000000.bin"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert fetch(hub, folder).returncode == 0, "sizes alone are compared without --verify"
    done = fetch(hub, folder, "--verify")
    assert done.returncode == 0, done.stderr
    assert "was changed" in done.stderr
    same(hub, folder, load(folder))
    path.write_bytes(content[:-2])
    assert fetch(hub, folder).returncode == 0
    same(hub, folder, load(folder))


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--variant", "sp123"), 2, "no variant 'sp123'; there are sp1024, sp4096"),
        (("--variant", "sp4096"), 5, "does not hold"),
        (("--train-shards", "4"), 2, "3 training shards, 4 were asked for"),
        (("--train-shards", "0"), 2, "at least one"),
    ],
)
def test_what_is_not_published_is_named(hub: LocalHub, tmp_path: Path, options: tuple[str, ...], code: int, words: str):
    done = fetch(hub, tmp_path / "fineweb", *options)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert not hub.ranges(f"{ON_HUB}{SHARDS}val_000000.bin")


def test_a_full_disk_is_found_out_before_anything_is_fetched(hub: LocalHub, tmp_path: Path):
    path = f"{ON_HUB}{SHARDS}train_000000.bin"
    hub.claimed[path] = 10**15
    done = fetch(hub, tmp_path / "fineweb")
    assert done.returncode == 2
    assert "do not fit" in done.stderr and "GB free" in done.stderr and "--train-shards" in done.stderr
    assert not hub.ranges(path) and not hub.ranges(f"{ON_HUB}{SHARDS}val_000000.bin")


def test_no_hub_at_all_is_a_clear_error(hub: LocalHub, tmp_path: Path):
    argv, env = command(hub, tmp_path / "fineweb")
    env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 5
    assert "can't get" in done.stderr and "Traceback" not in done.stderr


def test_without_the_library_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"-m pip install .*\[golf\]") as caught:
        prepare("fineweb", tmp_path / "fineweb")
    assert caught.value.exit_code == 5


def test_a_folder_holds_one_variant(hub: LocalHub, tmp_path: Path):
    folder = tmp_path / "fineweb"
    assert fetch(hub, folder).returncode == 0
    done = fetch(hub, folder, "--variant", "sp4096")
    assert done.returncode == 2
    assert "holds variant sp1024" in done.stderr


def test_a_shards_tokens_are_counted(tmp_path: Path):
    path = tmp_path / "a.bin"
    write_shard(path, [0, 1, 1023, 65_535, 7])
    raw = path.read_bytes()
    assert len(raw) == 1024 + 2 * 5
    assert np.frombuffer(raw, "<i4", 256)[:4].tolist() == [20240520, 1, 5, 0]
    assert raw[1024:] == bytes([0, 0, 1, 0, 255, 3, 255, 255, 7, 0])
    assert count_tokens(path) == 5
    write_shard(path, [])
    assert count_tokens(path) == 0


@pytest.mark.parametrize(
    ("header", "size", "words"),
    [
        ((MAGIC + 1, 1, 5), HEADER_BYTES + 10, "no token shard"),
        ((MAGIC, 2, 5), HEADER_BYTES + 10, "version 2"),
        ((MAGIC, 1, 5), HEADER_BYTES + 11, "header says 5 tokens"),
        ((MAGIC, 1, -5), HEADER_BYTES - 10 + 10, "header says -5 tokens"),
        ((MAGIC, 1, 0), 100, "less than a header"),
    ],
)
def test_a_bad_shard_is_refused(tmp_path: Path, header: tuple[int, int, int], size: int, words: str):
    path = tmp_path / "a.bin"
    path.write_bytes(np.array(header, "<i4").tobytes().ljust(size, b"\0"))
    with pytest.raises(ShardError, match=words):
        count_tokens(path)
    with pytest.raises(ShardError, match="can't read"):
        count_tokens(tmp_path / "none.bin")
