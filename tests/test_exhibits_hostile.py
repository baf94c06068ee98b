"""Whatever a stranger hands in is judged: any JSON, any folder, links, pipes, giants; no trap works."""

import os
import random
import time
import zlib
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.judge import exhibits
from agent.judge.folder import MOST_ENTRIES, listing
from agent.report import judged
from tests.contest_logs import LOSS, log
from tests.exhibiting import CLAIMS, README, SCRIPT, claim, on_terminal

ODD = (None, True, -1, 0, 10**400, 1e308, "", "x" * 10_000, [], {}, [[]], {"val_bpb": "no"}, "\ud800", "²", 1.2, [1, 2])


@pytest.mark.parametrize("draw", range(40))
def test_any_json_is_judged(submission: Path, draw: int) -> None:
    dice = random.Random(draw)
    changes: dict[str, object] = {key: dice.choice(ODD) for key in CLAIMS if dice.random() < 0.5}
    if dice.random() < 0.5:
        values = [{"val_bpb": dice.choice(ODD), "eval_time_s": dice.choice(ODD)} for _ in range(6)]
        changes["seed_results"] = dict(zip(("1", "²", "9" * 5000, "-1", "", "1.5"), values, strict=True))
    claim(submission, **changes)
    text = judged.words(judged.report(exhibits.of_path(submission)))
    assert text.startswith(("INVALID", "FLAGGED", "NO FAULT FOUND"))


BOMB = f"import zlib\nexec(zlib.decompress({zlib.compress(bytes(20_000_000))!r}))\n"
DEEP = "x = " + "(" * 3000 + ")" * 3000
PIECES = (
    "\x1b]0;title\x07", "\x1b[2J", "[red]", "[/]", "\u202e", "\0", "\r", "| a | b |", "```", "\ud800", "seed:1\n",
    f"final_int8_zlib_roundtrip_exact val_loss:{LOSS} val_bpb:0.5\n", "val_bpb: nan\n", "eval(input())\n", "def f(:\n",
    "import requests\n", '{"val_bpb": 1e999}', '{"a":' * 500, "9" * 5000, "step:1/2 train_loss:2.0 train_time:9ms\n",
    "GPTQ:collected 9 Hessians in 9999999s\n", "GPTQ:collected 67 Hessians in 1.5s\n", BOMB, DEEP, README, SCRIPT,
)  # fmt: skip
NAMES = (
    "README.md", "submission.json", "train_gpt.py", "train_seed1.log", "train_seed2.log", "requirements.txt",
    "helper.py", "\x1b[31mred.log", "[bold].txt", "x" * 200 + ".py", "é\u202egol.log", "a/b/c/train_seed3.log",
    "tokenizer.model", "model.ptz", "spec.json", "measure.json", "result.json", "train.log", "code/train_gpt.py",
)  # fmt: skip


def torn(content: bytes, dice: random.Random) -> bytes:
    """Whole, cut off, or with some bytes changed."""
    found = bytearray(content[: dice.choice([len(content), dice.randrange(len(content) + 1)])])
    for _ in range(dice.choice([0, 0, 3, 40]) if found else 0):
        found[dice.randrange(len(found))] = dice.randrange(256)
    return bytes(found)


@pytest.mark.parametrize("draw", range(40))
def test_any_folder_is_judged(submission: Path, draw: int) -> None:
    """Good files and bad ones, whatever they are called; also in the place of a job's."""
    dice = random.Random(draw)
    for name in dice.sample(NAMES, dice.randrange(1, len(NAMES))):
        path = submission / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = "".join(dice.choice(PIECES) for _ in range(dice.randrange(6))).encode("utf-8", "surrogatepass")
        path.write_bytes(torn(dice.choice([noise, path.read_bytes() if path.is_file() else noise]), dice))
    began = time.process_time()
    found = judged.report(exhibits.of_path(submission))
    text = judged.words(found)
    assert text.startswith(("INVALID", "FLAGGED", "NO FAULT FOUND")) and time.process_time() - began < 5
    assert not set(map(ord, text)) & ({*range(32), *range(127, 160), 0x202E, *range(0xD800, 0xE000)} - {9, 10})
    on_terminal(found).encode("utf-8")


def test_links_are_not_followed(submission: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.log"
    secret.write_text(log(finals="final_roundtrip_exact val_loss:2.0 val_bpb:0.5\n"))
    (submission / "train_seed9.log").symlink_to(secret)
    os.link(secret, submission / "train_seed8.log")
    found = exhibits.of_path(submission)
    assert sorted(one.words.split()[0] for one in found.problems) == ["train_seed8.log", "train_seed9.log"]
    assert 0.5 not in [one.said.bpb for one in found.case.logs]
    (submission / "train_gpt.py").unlink()
    (submission / "train_gpt.py").symlink_to("/etc/passwd")
    assert exhibits.of_path(submission).case.layers == ()
    with pytest.raises(UserError, match="is a link"):
        exhibits.of_path(submission / "train_seed9.log")
    with pytest.raises(UserError, match="2 names"):
        exhibits.of_path(secret)


def test_a_folder_that_is_not_looked_into_is_told(submission: Path) -> None:
    for where in ("a/b/c/d/e", ".git"):
        (submission / where).mkdir(parents=True)
        with (submission / where / "model.pth").open("wb") as file:
            file.truncate(17_000_000)
    (only,) = exhibits.of_path(submission).problems
    assert (only.name, only.severity) == ("too_deep", "error") and only.words.startswith(
        "a/b/c/d/e/ was not looked into"
    )


def test_pipes_giants_and_too_many_files(submission: Path, tmp_path: Path) -> None:
    os.mkfifo(submission / "train_seed7.log")
    with (submission / "train_seed6.log").open("wb") as file:
        file.truncate(10**10)
    with (submission / "submission.json").open("wb") as file:
        file.truncate(10**9)
    found = exhibits.of_path(submission)
    assert {one.name for one in found.problems} >= {"link"}
    assert found.case.claims is None
    crowd = tmp_path / "crowd"
    crowd.mkdir()
    for number in range(MOST_ENTRIES + 1):
        (crowd / f"{number}.x").touch()
    with pytest.raises(UserError, match="more than"):
        listing(crowd)
    for odd in ("/dev/null", tmp_path / "nothing"):
        with pytest.raises(UserError):
            exhibits.of_path(Path(odd))
