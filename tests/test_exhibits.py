"""What strangers hand in: what is read of it, what is wrong with a package, and that no trap works."""

import io
import json
import math
import os
import random
import re
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agent.errors import UserError
from agent.job.folder import JobResult, PhaseResult
from agent.judge import exhibits
from agent.judge.folder import MOST_ENTRIES, listing
from agent.judge.rules import rulings
from agent.judge.submission import script_of
from agent.records import Audited, Finding
from agent.report import judged, judged_terminal
from agent.words import plain
from sandbox.limits import Exit
from tests import filling
from tests.contest_logs import EXACT, LOSS, log
from trainer import pack

SCRIPT = "import torch\n\n\ndef main():\n    print('train')\n" + "# a comment that makes it longer\n" * 10
CLAIMS = {
    "author": "A Person",
    "github_id": "person",
    "name": "A record",
    "blurb": "It is better.",
    "date": "2026-04-01",
    "track": "track_10min_16mb",
    "val_loss": 2.07269931,
    "val_bpb": 1.22756946,
    "val_bpb_std": 0.0,
    "seeds": [1, 2, 3],
    "seed_results": {str(seed): {"val_bpb": 1.22756944 + seed / 1e8, "artifact_bytes": 15874829} for seed in (1, 2, 3)},
    "bytes_total": 15874829,
    "bytes_code": len(SCRIPT),
}
README = "# A record\n\nval_bpb 1.2276\n\n```bash\nSEED=1 torchrun --standalone --nproc_per_node=8 train_gpt.py\n```\n"


def seed_log(seed: int, bpb: float | None = None) -> str:
    """Around 1.22756946."""
    return (
        log(seed)
        .replace("1.22756946", f"{1.22756944 + seed / 1e8 if bpb is None else bpb:.8f}")
        .replace("Code size: 58340", f"Code size: {len(SCRIPT)}")
        .replace("15816489", str(15874829 - len(SCRIPT)))
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A submission in which everything is right."""
    made = tmp_path / "records" / "track_10min_16mb" / "2026-04-01_ARecord"
    made.mkdir(parents=True)
    (made / "README.md").write_text(README)
    (made / "submission.json").write_text(json.dumps(CLAIMS))
    (made / "train_gpt.py").write_text(SCRIPT)
    for seed in (1, 2, 3):
        (made / f"train_seed{seed}.log").write_text(seed_log(seed))
    return made


def problems(folder: Path) -> list[str]:
    return [one.name for one in exhibits.of_path(folder).problems]


def said(folder: Path, number: int):  # type: ignore[no-untyped-def]
    return next(one for one in rulings(exhibits.of_path(folder).case) if one.rule == number)


def claim(folder: Path, **changes: object) -> None:
    (folder / "submission.json").write_text(json.dumps({**CLAIMS, **changes}))


def test_a_whole_submission_passes(folder: Path) -> None:
    found = judged.report(exhibits.of_path(folder))
    assert (found.verdict, found.problems) == ("clean", ())
    passed = {one.rule for one in found.rulings if one.state == "passed"}
    assert passed == {13, 14, 15, 16, 17, 18, 19, 23, 25}
    assert found.table is not None and found.table.mean == pytest.approx(1.22756946)
    text = judged.words(found)
    assert text.startswith("NO FAULT FOUND") and "mean 1.22756946, standard deviation 0.00000001 (n - 1)" in text


# ------------------------------------------------------------ packages that were merged although they were broken


@pytest.mark.parametrize("name", ["README.md", "submission.json", "train_gpt.py"])
def test_a_file_that_is_missing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    missing = {"README.md": "no_readme", "submission.json": "no_json", "train_gpt.py": "no_script"}[name]
    assert missing in problems(folder)
    assert judged.report(exhibits.of_path(folder)).verdict == "invalid"


def test_a_script_without_content(folder: Path) -> None:
    (folder / "train_gpt.py").write_text("")
    assert "empty_script" in problems(folder)
    (folder / "train_gpt.py").write_text("exec(open('train_gpt_human.py').read())\n")
    (folder / "train_gpt_human.py").write_text(SCRIPT + "import requests\n")
    assert "empty_script" in problems(folder)
    assert said(folder, 16).state == "violated" and "train_gpt_human.py" in " ".join(said(folder, 16).evidence)
    assert said(folder, 22).severity == "invalid"  # what it executes is looked at


def test_another_name_a_null_author_an_absent_file_and_settings(folder: Path) -> None:
    (folder / "train_gpt.py").rename(folder / "train_gpt_v5.py")
    claim(folder, author=None)
    (folder / "README.md").write_text("NUM_LAYERS=11 QK_GAIN=4 SEED=7 torchrun --nproc_per_node=8 train_gpt_sweep.py\n")
    found = {one.name: one for one in exhibits.of_path(folder).problems}
    assert set(found) == {"script_name", "no_author", "absent_file", "needs_environment"}
    assert "train_gpt_sweep.py" in found["absent_file"].words
    assert "NUM_LAYERS, QK_GAIN" in found["needs_environment"].words


def test_commands_over_several_lines_and_of_the_contests_own_scripts(folder: Path) -> None:
    (folder / "README.md").write_text(
        "```bash\npython3 data/cached_challenge_fineweb.py --variant sp1024\nSEED=1 \\\nQK_GAIN=5 \\\n"
        "torchrun --nproc_per_node=8 records/track_10min_16mb/2026-04-01_ARecord/train_gpt.py\n```\n"
    )
    (only,) = exhibits.of_path(folder).problems
    assert only.name == "needs_environment" and only.words.endswith(": QK_GAIN")


@pytest.mark.parametrize("text", ["{", "[]", '{"val_bpb": NaN}', "[" * 100_000, '{"val_bpb": "1.2"}', "\xff"])
def test_a_json_that_is_none(folder: Path, text: str) -> None:
    (folder / "submission.json").write_text(text, "latin-1")
    assert set(problems(folder)) & {"bad_json", "bad_val_bpb"}


# ------------------------------------------------------------ figures beside the logs


def test_figures_that_are_not_those_of_the_logs(folder: Path) -> None:
    claim(folder, val_bpb=1.2175, val_bpb_std=0.01, bytes_total=15_000_000)
    assert problems(folder) == ["other_score", "other_std", "other_size"]
    results = {"1": {"val_bpb": 1.2}, "2": {"val_bpb": 1.22756946}, "9": {"val_bpb": 1.2}}
    claim(folder, seed_results=results)
    assert problems(folder) == ["other_seed_score", "no_log_of_seed", "seed_left_out"]


def test_a_standard_deviation_over_n_is_told(folder: Path) -> None:
    for seed, bpb in ((1, 1.22750000), (2, 1.22800000), (3, 1.22850000)):
        (folder / f"train_seed{seed}.log").write_text(seed_log(seed, bpb))
    claim(folder, val_bpb=1.228, val_bpb_std=0.00040825, seed_results=None)
    assert problems(folder) == ["std_divides_by_n"]
    claim(folder, val_bpb=1.228, val_bpb_std=0.0005, seed_results=None)
    assert problems(folder) == []


def test_code_is_counted_as_it_is_shipped(folder: Path) -> None:
    (folder / "train_gpt.py").write_text(SCRIPT + "# more\n" * 30_000)
    wrapped = said(folder, 16)
    assert (wrapped.state, wrapped.severity) == ("violated", "policy") and "210,3" in wrapped.words
    over = said(folder, 15)
    assert over.state == "violated" and "model with the code as shipped" in over.evidence[0]


def test_a_packed_script_is_read_and_counted(folder: Path) -> None:
    packed = pack._wrap(pack._forms()[0], (SCRIPT + "import httpx\n").encode())
    (folder / "train_gpt.py").write_bytes(packed)
    assert said(folder, 22).severity == "invalid" and "httpx" in said(folder, 22).words


def test_a_size_over_the_limit_and_a_clock_over_its_own(folder: Path) -> None:
    text = seed_log(3).replace("15874829", "16000001").replace("600028ms", "601153ms").replace("1401ms", "688000ms")
    (folder / "train_seed3.log").write_text(text)
    for number in (13, 14, 15):
        assert (said(folder, number).state, said(folder, number).severity) == ("violated", "invalid"), number
        assert "train_seed3.log" in said(folder, number).evidence[0]
    claim(folder, track="track_non_record_16mb")
    assert said(folder, 14).state == "unknown" and said(folder, 15).state == "violated"


def test_seeds_that_are_not_what_files_are_called(folder: Path) -> None:
    (folder / "train_seed2.log").write_text(seed_log(1))
    found = said(folder, 21)
    assert found.state == "violated" and found.severity == "flag"
    assert any("named after seed 2" in one for one in found.evidence)
    assert any("several logs with seed 1" in one for one in found.evidence)
    (folder / "train_seed2.log").unlink()
    assert said(folder, 23).state == "violated"


def test_one_log_under_the_names_of_several_seeds_is_one_run(folder: Path) -> None:
    for seed in (1, 2, 3):
        (folder / f"train_seed{seed}.log").write_text(seed_log(seed, 1.2275))
    found = said(folder, 23)
    assert (found.state, found.severity, len(found.evidence)) == ("violated", "invalid", 3)
    assert "train_seed1.log and train_seed2.log name seeds 1 and 2" in found.words and "600,028 ms" in found.words
    assert judged.report(exhibits.of_path(folder)).verdict == "invalid"
    for seed in (1, 2, 3):
        other_time = seed_log(seed, 1.2275).replace("600028ms", f"60002{seed}ms")
        (folder / f"train_seed{seed}.log").write_text(other_time)
    assert said(folder, 23).severity == "flag" and "every digit of score" in said(folder, 23).words
    for seed in (1, 2, 3):
        short = seed_log(seed, 1.2276).replace("val_bpb:1.22760000", "val_bpb:1.2276")
        (folder / f"train_seed{seed}.log").write_text(short)
    assert (said(folder, 23).state, said(folder, 23).severity) == ("violated", "flag")
    steps = "".join(f"step:{at}/20000 train_loss:2.{at} train_time:{{}}ms step_avg:43ms\n" for at in range(1, 7))
    for seed in (1, 2, 3):
        lines = steps.replace("{}", str(seed))
        text = seed_log(seed).replace("step:13450", f"{lines}step:13450", 1)
        (folder / f"train_seed{seed}.log").write_text(text)
    assert said(folder, 23).severity == "flag" and "one training" in said(folder, 23).words


def test_a_run_that_two_logs_tell_of_counts_once(folder: Path) -> None:
    (folder / "train.log").write_text(seed_log(2))
    assert said(folder, 23).state == "passed" and said(folder, 23).words.startswith("3 scores")
    for name in ("train_seed1.log", "train_seed3.log"):
        (folder / name).unlink()
    (folder / "a.log").write_text(seed_log(2).replace("seed:2\n", ""))
    (folder / "b.log").write_text(seed_log(2).replace("seed:2\n", ""))
    found = said(folder, 23)
    assert (found.state, found.severity) == ("violated", "flag") and "1 logs have a score (3 more tell" in found.words


def test_the_source_that_a_log_prints_is_compared(folder: Path) -> None:
    bars = "=" * 100 + "\n"
    source = "import os\nimport torch\nfrom pathlib import Path\n\n" + SCRIPT
    (folder / "train_gpt.py").write_text(source)
    (folder / "train_seed1.log").write_text(source + bars + seed_log(1))
    assert said(folder, 24).state == "passed"
    (folder / "train_seed1.log").write_text(source.replace("'train'", "'trains'") + bars + seed_log(1))
    assert said(folder, 24).state == "violated" and "1 lines" in " ".join(said(folder, 24).evidence)


def test_an_artifact_that_is_shipped_is_counted_as_it_lies_there(folder: Path) -> None:
    with (folder / "final_model.int8.ptz").open("wb") as file:
        file.truncate(16_000_000 - len(SCRIPT) + 1)
    found = said(folder, 15)
    assert found.state == "violated" and found.evidence == (
        "artifact and script, as they are shipped (final_model.int8.ptz): 16,000,001 bytes",
    )


@pytest.mark.parametrize(
    "name",
    [
        "final_model.pth",
        "final_model.PTZ",
        "model.pkl.gz",
        "weights",
        "w.json",
        "notes.txt",
        "plot.png",
        "a/b.py",
        "t.model",
    ],
)
def test_a_model_counts_whatever_it_is_called(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    with (folder / name).open("wb") as file:
        file.truncate(17_000_000)
    found = said(folder, 15)
    assert (found.state, found.severity) == ("violated", "invalid")
    assert f"({name}): {17_000_000 + len(SCRIPT):,} bytes" in found.evidence[0]


def test_a_model_in_many_small_files_counts_and_a_few_helpers_do_not(folder: Path) -> None:
    model = folder / "final_model.ptz"
    with model.open("wb") as file:
        file.truncate(16_000_000 - len(SCRIPT))
    for name, size in (("LICENSE", 1_075), ("t.model", 366_000), ("plot.png", 400_000), ("long.log", 3_000_000)):
        (folder / name).write_bytes(b"x" * size)
    (folder / "long.log").write_text(seed_log(4) + "step:9/9 train_loss:2.0\n" * 100_000)
    assert said(folder, 15).state == "passed"
    model.unlink()
    for number in range(18):
        (folder / f"part{number}.dat").write_bytes(bytes(900_000))
    found = said(folder, 15)
    assert found.state == "violated" and "part0.dat, part1.dat, part10.dat and 17 more" in found.evidence[0]


def test_a_submission_is_over_the_contests_set_whatever_its_logs_name(folder: Path) -> None:
    for seed in (1, 2, 3):
        text = re.sub(r"fineweb(10B)?_(sp|)1024(_bpe.model)?", "mine", seed_log(seed))
        text = text.replace("tokens:62021632", "tokens:173069").replace("1.2275", "2.5275")
        (folder / f"train_seed{seed}.log").write_text(text)
    for number in (18, 19):
        assert (said(folder, number).state, said(folder, number).severity) == ("violated", "invalid")
        alone = replace(exhibits.of_path(folder).case, contest=None)
        assert next(one for one in rulings(alone) if one.rule == number).state == "unknown"


def test_that_not_all_logs_were_read_is_said(folder: Path) -> None:
    assert exhibits.of_path(folder).case.notes == ()
    for seed in range(4, exhibits.MOST_LOGS + 2):
        (folder / f"train_seed{seed}.log").write_text(seed_log(seed))
    found = judged.report(exhibits.of_path(folder))
    assert len(found.scores) == exhibits.MOST_LOGS and found.notes == ("of its 65 logs the first 64 were read",)


def test_helpers_are_listed(folder: Path) -> None:
    (folder / "tokenizers").mkdir()
    (folder / "tokenizers" / "a.model").write_bytes(bytes(366_000))
    found = said(folder, 17)
    assert (found.state, found.severity) == ("violated", "policy") and "366,000 of them tokenizer" in found.words


# ------------------------------------------------------------ logs, scripts, and what is neither


def test_a_long_script_hides_nothing_and_one_that_is_too_long_is_for_a_person(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(f"# {'x' * 1_500_000}\nimport requests\n")
    assert judged.report(exhibits.of_path(path)).verdict == "invalid"
    path.write_text(f"# {'x' * 2_000_000}\nimport requests\n")
    found = exhibits.of_path(path)
    assert [(one.severity, one.name) for one in found.case.signs] == [("flag", "no_python")]
    assert judged.report(found).verdict == "flagged"
    # What it executes of a file beside it takes of the same room.
    path.write_text(f"# {'x' * 1_500_000}\nexec(open('b.py').read())\n")
    (tmp_path / "b.py").write_text(f"# {'x' * 400_000}\nimport requests\n")
    assert judged.report(exhibits.of_path(path)).verdict == "invalid"
    (tmp_path / "b.py").write_text(f"# {'x' * 600_000}\nimport requests\n")
    assert {one.name for one in exhibits.of_path(path).case.signs} == {"runs_a_file", "no_python"}


def test_a_log_and_a_script_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(log(finals=LOSS + EXACT) + "\x1b]0;title\x07\n")
    found = judged.report(exhibits.of_path(tmp_path / "a.log"))
    assert (found.kind, found.verdict, found.scores[0].bpb) == ("log", "clean", 1.22756946)
    (tmp_path / "a.py").write_text("import requests\n")
    assert judged.report(exhibits.of_path(tmp_path / "a.py")).verdict == "invalid"
    (tmp_path / "empty.log").write_text("")
    assert "has no official score: the log holds no final score" in judged.words(
        judged.report(exhibits.of_path(tmp_path / "empty.log"))
    )


def test_a_jobs_folder_by_itself(tmp_path: Path) -> None:
    """Without its store: the judge's own answer is beside the log."""
    from agent.judge.task import Audit, Measured, no_score

    (tmp_path / "spec.json").write_text("{}")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train_gpt.py").write_text(SCRIPT)
    (tmp_path / "train.log").write_text(log(finals=""))
    found = judged.report(exhibits.of_path(tmp_path))
    assert found.kind == "job" and found.measured_bpb is None
    assert found.notes == ("it has no result: it is still running, or was lost", "no judge has scored it")
    audit = Audit(64, "secret", 1e-6, 1e-7)
    values = {
        "nats": 1000.0,
        "tokens": 300,
        "bytes": 700,
        "doc_nats": (1000.0,),
        "audit": audit,
        "walls": ("landlock",),
    }
    answer: Measured = replace(no_score("ok", ""), **values)
    (tmp_path / "measure.json").write_text(answer.to_json())
    phases = tuple(PhaseResult(name, Exit(0, None, "exited", 9.0, 9.0, 9.0)) for name in ("train", "judge"))
    (tmp_path / "result.json").write_text(JobResult(1, "ok", "", phases, 20.0, ("landlock",), True).to_json())
    found = judged.report(exhibits.of_path(tmp_path))
    assert found.measured_bpb == pytest.approx(1000 / math.log(2) / 700)
    assert found.trust == "reported" and "no store of this workspace" in found.notes[0]
    assert not {5, 7, 9, 20} & {one.rule for one in found.rulings if one.state == "passed"}
    (tmp_path / "measure.json").write_text('{"judge_version": 0}')
    assert "not one of this version" in exhibits.of_path(tmp_path).case.notes[0]


def test_which_script_is_meant() -> None:
    assert script_of(["a.py", "train_gpt.py"]) == "train_gpt.py"
    assert script_of(["helper.py", "train_gpt_v5.py", "x/train_gpt.py"]) == "train_gpt_v5.py"
    assert script_of(["only.py"]) == "only.py" and script_of(["a.py", "b.py"]) == ""
    assert script_of(["trainer/train_gpt.py", "spec.json"]) == "trainer/train_gpt.py"


# ------------------------------------------------------------ traps

ODD = (None, True, -1, 0, 10**400, 1e308, "", "x" * 10_000, [], {}, [[]], {"val_bpb": "no"}, "\ud800", "²", 1.2, [1, 2])


@pytest.mark.parametrize("draw", range(40))
def test_any_json_is_judged(folder: Path, draw: int) -> None:
    dice = random.Random(draw)
    changes: dict[str, object] = {key: dice.choice(ODD) for key in CLAIMS if dice.random() < 0.5}
    if dice.random() < 0.5:
        values = [{"val_bpb": dice.choice(ODD), "eval_time_s": dice.choice(ODD)} for _ in range(6)]
        changes["seed_results"] = dict(zip(("1", "²", "9" * 5000, "-1", "", "1.5"), values, strict=True))
    claim(folder, **changes)
    text = judged.words(judged.report(exhibits.of_path(folder)))
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
def test_any_folder_is_judged(folder: Path, draw: int) -> None:
    """Good files and bad ones, whatever they are called; also in the place of a job's."""
    dice = random.Random(draw)
    for name in dice.sample(NAMES, dice.randrange(1, len(NAMES))):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = "".join(dice.choice(PIECES) for _ in range(dice.randrange(6))).encode("utf-8", "surrogatepass")
        path.write_bytes(torn(dice.choice([noise, path.read_bytes() if path.is_file() else noise]), dice))
    began = time.process_time()
    found = judged.report(exhibits.of_path(folder))
    text = judged.words(found)
    assert text.startswith(("INVALID", "FLAGGED", "NO FAULT FOUND")) and time.process_time() - began < 5
    assert not set(map(ord, text)) & ({*range(32), *range(127, 160), 0x202E, *range(0xD800, 0xE000)} - {9, 10})
    on_terminal(found).encode("utf-8")


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.log"
    secret.write_text(log(finals="final_roundtrip_exact val_loss:2.0 val_bpb:0.5\n"))
    (folder / "train_seed9.log").symlink_to(secret)
    os.link(secret, folder / "train_seed8.log")
    found = exhibits.of_path(folder)
    assert sorted(one.words.split()[0] for one in found.problems) == ["train_seed8.log", "train_seed9.log"]
    assert 0.5 not in [one.said.bpb for one in found.case.logs]
    (folder / "train_gpt.py").unlink()
    (folder / "train_gpt.py").symlink_to("/etc/passwd")
    assert exhibits.of_path(folder).case.layers == ()
    with pytest.raises(UserError, match="is a link"):
        exhibits.of_path(folder / "train_seed9.log")
    with pytest.raises(UserError, match="2 names"):
        exhibits.of_path(secret)


def test_a_folder_that_is_not_looked_into_is_told(folder: Path) -> None:
    for where in ("a/b/c/d/e", ".git"):
        (folder / where).mkdir(parents=True)
        with (folder / where / "model.pth").open("wb") as file:
            file.truncate(17_000_000)
    (only,) = exhibits.of_path(folder).problems
    assert (only.name, only.severity) == ("too_deep", "error") and only.words.startswith(
        "a/b/c/d/e/ was not looked into"
    )


def test_pipes_giants_and_too_many_files(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "train_seed7.log")
    with (folder / "train_seed6.log").open("wb") as file:
        file.truncate(10**10)
    with (folder / "submission.json").open("wb") as file:
        file.truncate(10**9)
    found = exhibits.of_path(folder)
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


def on_terminal(found: judged.Report) -> str:
    out = io.StringIO()
    judged_terminal.show(found, Console(file=out, force_terminal=True, width=100))
    return out.getvalue()


def test_on_a_terminal_the_verdict_comes_first_then_what_shows_it_then_the_figures(folder: Path) -> None:
    clean = on_terminal(judged.report(exhibits.of_path(folder)))
    assert "NO FAULT FOUND" in clean.splitlines()[0] and "findings" not in clean
    (folder / "train_gpt.py").write_text(SCRIPT + "import requests\n")
    case = exhibits.of_path(folder)
    seen = Finding("mean_mismatch", "invalid", "it claimed too much")
    audit = Audited(
        "full",
        4000,
        3000,
        900,
        40,
        0,
        2e-6,
        1e-7,
        0.01,
        "fp32",
        1e-7,
        2e-8,
        5e-8,
        1e-8,
        "a bigram",
        1e-5,
        2e-3,
        5e-3,
        9,
        2,
    )
    measured = replace(filling.measurement(1, 1.2), findings=(seen,), audit=audit, code_bytes=900)
    found = judged.report(replace(case, case=replace(case.case, measured=measured)))
    text = plain(on_terminal(found))
    order = ("INVALID", "\nfindings", "rule 4,", "rule 22,", "\nlogs", "\nmeasured", "\nrules", "\nfiles: 6")
    places = [text.index(word) for word in order]
    assert places == sorted(places), dict(zip(order, places, strict=True))
    text = " ".join(text.split())
    assert "it imports requests: nothing may come from a network" in text and "900 bytes" in text
    assert "4,000: 3,000 uniform, 900 surprising, 40 twice" in text and "why: what is fetched" in text
    assert judged.words(found).count("it claimed too much") >= 1 and "audit  full, positions: 4,000" in judged.words(
        found
    )
    assert "1,475" not in text and all(str(seed) in text for seed in (1, 2, 3))


def test_nothing_that_a_stranger_wrote_reaches_the_terminal(folder: Path) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\u202e"
    claim(folder, author=evil, name=evil)
    (folder / "README.md").write_text(f"python {evil}train_x.py\n")
    (folder / f"b{evil}.so").write_bytes(b"x")
    (folder / "train_seed1.log").write_text(seed_log(1) + f"final_{evil}roundtrip val_loss:2.0 val_bpb:1.0\n")
    folder = folder.rename(folder.with_name(f"x{evil}"))
    text = judged.words(judged.report(exhibits.of_path(folder)))
    assert "\x1b" not in text and "\u202e" not in text and "\x07" not in text
    shown = on_terminal(judged.report(exhibits.of_path(folder)))
    assert "\u202e" not in shown and "\x07" not in shown and not re.search(r"\x1b(?!\[[\d;]*m)", shown)
    claim(folder, author="[red]x[/red] [link=http://a]b[/link]")
    (folder / "[bold]b.so").write_bytes(b"x")
    assert "[bold]b.so" in on_terminal(judged.report(exhibits.of_path(folder)))
