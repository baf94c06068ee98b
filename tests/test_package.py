"""The folder of a submission: what it holds, and that its script runs alone in it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.job.folder import JobPaths
from agent.judge import exhibits, logs
from agent.report import judged
from agent.report import package as packages
from tests import fineweb
from tests.packaging import LOG, ME, SCORES, Make, making, refused
from trainer.pack import pack

SOURCE = Path("trainer/train_gpt.py")
HOSTILE = "<script>alert(1)</script> [x](javascript:1) | \x1b[31m"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from making(tmp_path)


# ---------------------------------------------------------------- what it holds


def test_a_record_is_a_folder_as_the_contest_wants_it(make: Make, tmp_path: Path) -> None:
    made = make().package()
    assert made.refused == () and made.claim is not None and made.claim.holds
    day = made.folder.removeprefix("records/track_10min_16mb/")
    assert day.endswith("_More_heads") and day[4] == day[7] == "-"
    logs_of = [f"train_seed{seed}.log" for seed in (41, 42, 43)]
    assert sorted(made.files) == ["README.md", "requirements.txt", "submission.json", "train_gpt.py", *logs_of]
    said = json.loads(made.files["submission.json"])
    assert said["val_bpb"] == pytest.approx(sum(SCORES) / 3, abs=1e-8) and said["seeds"] == [41, 42, 43]
    assert said["seed_results"]["42"]["val_bpb"] == 1.0718 and said["bytes_total"] == 15_900_000
    assert (said["author"], said["github_id"], said["track"]) == ("A. Person", "aperson", "track_10min_16mb")
    # nats a token = BPB * ln 2 / tokens a byte, by the figures beside it
    assert said["val_loss"] == pytest.approx(said["val_bpb"] * 0.69314718 / 0.3, rel=1e-6)
    assert b"torch==" in made.files["requirements.txt"]
    packages.write(made, tmp_path / "out")
    assert (tmp_path / "out" / "train_gpt.py").read_bytes() == b"print(1)\n"
    with pytest.raises(UserError, match="nothing is overwritten"):
        packages.write(made, tmp_path / "out")


def test_the_logs_say_what_was_measured(make: Make) -> None:
    made = make().package()
    for seed, bpb in zip((41, 42, 43), SCORES, strict=True):
        found = logs.reported(made.files[f"train_seed{seed}.log"].decode())
        assert found.bpb == pytest.approx(bpb, abs=1e-8) and found.seed == seed
    boast = "quantized_ttt_phased val_loss:2.0 val_bpb:0.9 eval_time:1ms\n"
    found = make(log=LOG + boast).package()
    assert refused(found) == ["logs"] and "says 0.9 BPB, and 1.0712" in found.refused[0].words


def test_agent_judge_passes_the_folder(make: Make, tmp_path: Path) -> None:
    code = pack(SOURCE.read_text("utf-8"))
    made = make(code=code, trust="blind", odd={"code_bytes": len(code)}).package()
    assert made.refused == ()
    packages.write(made, tmp_path / "out")
    found = judged.report(exhibits.of_path(tmp_path / "out"))
    assert found.verdict == "flagged"  # its setting is given in the environment, and the README says so
    assert [one.name for one in found.problems] == ["needs_environment"]
    assert not [one for one in found.rulings if one.state == "violated"]
    assert {13, 14, 15, 16, 17, 23, 25} <= {one.rule for one in found.rulings if one.state == "passed"}
    (tmp_path / "out" / "train_seed42.log").unlink()
    assert judged.report(exhibits.of_path(tmp_path / "out")).verdict == "invalid"


def test_scoring_is_what_the_answers_took(make: Make, tmp_path: Path) -> None:
    """Not what the judge's other questions took."""
    made = make(answers_s=590.0, wall_s=650.0).package()
    assert made.refused == ()
    packages.write(made, tmp_path / "out")
    said = json.loads((tmp_path / "out" / "submission.json").read_text())
    assert said["seed_results"]["42"]["eval_time_s"] == 590.0 and said["compliance"]["eval_under_600s"] is True
    found = judged.report(exhibits.of_path(tmp_path / "out"))
    assert next(one.state for one in found.rulings if one.rule == 13) == "passed"


def test_what_a_model_wrote_is_text_in_the_readme(make: Make) -> None:
    files = make(title=HOSTILE).package().files
    text = files["README.md"].decode()
    assert "\\<script" in text
    assert not re.search(r"(?<!\\)<script", text) and not re.search(r"(?<!\\)\]\(javascript", text)
    assert "\x1b" not in text
    assert "\x1b" not in json.loads(files["submission.json"])["technique_summary"]


def test_what_claims_no_record_needs_none(make: Make) -> None:
    made = make().package(replace(ME, non_record=True, against=()))
    assert made.refused == () and made.folder.startswith("records/track_non_record_16mb/")
    assert "This is no record" in made.files["README.md"].decode()


def test_files_beside_the_script_are_packaged_because_they_are_counted(make: Make) -> None:
    """Editable or not: scoring could read them. What has a name of the package's own is put aside."""
    made = make(track="golf-8xh100")
    script = made.track.script.model_copy(update={"pack": False, "path": "train.py", "editable": ("train.py",)})
    for folder in made.jobs.iterdir():
        code = JobPaths(folder).code
        (code / "train_gpt.py").rename(code / "train.py")
        (code / "tokenizer").mkdir()
        (code / "tokenizer" / "bpe.model").write_bytes(b"pieces")
        (code / "helper.py").write_bytes(b"print(2)\n")
        (code / "README.md").write_bytes(b"mine")
    made.track = made.track.model_copy(update={"script": script})
    files = made.package().files
    assert files["train_gpt.py"] == b"print(1)\n" and files["tokenizer/bpe.model"] == b"pieces"
    assert files["helper.py"] == b"print(2)\n" and "train.py" not in files
    assert files["repository/README.md"] == b"mine" != files["README.md"]
    odd = next(iter(sorted(made.jobs.iterdir()))) / "code" / "link.py"
    odd.symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="is a link or too deep to be looked into"):
        made.package()
    odd.unlink()
    odd.with_name("train_gpt.py").write_bytes(b"another")
    with pytest.raises(UserError, match="the name of two files"):
        made.package()


def test_files_that_are_not_what_was_measured_are_not_packaged(make: Make) -> None:
    made = make()
    script = next(iter(sorted(made.jobs.iterdir()))) / "code" / "train_gpt.py"
    script.write_bytes(b"print(2)\n")
    with pytest.raises(UserError, match="is not the one that r"):
        made.package()
    script.unlink()
    with pytest.raises(UserError, match="can't be read"):
        made.package()
    script.symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="can't be read"):
        made.package()


# ---------------------------------------------------------------- alone


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["golf", "tiny"])
def test_the_script_runs_alone_in_its_folder(make: Make, tmp_path: Path, preset: str) -> None:
    """A plain contest script: it trains, evaluates and prints the official lines, with nothing of Caddie in reach."""
    made = make(code=pack(SOURCE.read_text("utf-8"))).package()
    folder = tmp_path / "records" / "one"
    packages.write(made, folder)
    fineweb.make_corpus(
        tmp_path / "data",
        fineweb.tokens_of(fineweb.stories(12, 2)),
        train=[fineweb.tokens_of(fineweb.stories(60, 3))],
    )
    few = {"ITERATIONS": "3", "WARMUP_STEPS": "0", "VOCAB_SIZE": "400", "TRAIN_SEQ_LEN": "32", "HOLDOUT": "500"}
    small = {"TRAIN_BATCH_TOKENS": "512", "VAL_BATCH_SIZE": "512", "MODEL_DIM": "32", "NUM_LAYERS": "2"}
    data = {
        "DATA_PATH": str(tmp_path / "data" / "datasets" / f"fineweb10B_{fineweb.VARIANT}"),
        "TOKENIZER_PATH": str(tmp_path / "data" / "tokenizers" / "fineweb_400_bpe.model"),
    }
    heads = {"NUM_HEADS": "2", "NUM_KV_HEADS": "1", "EVAL_STRIDE": "32", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(
        [sys.executable, "train_gpt.py"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PRESET": preset, **few, **small, **data, **heads},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = logs.reported(ended.stdout)
    assert found.bpb is not None and found.family == "int8 roundtrip" and found.total_bytes is not None
    assert (folder / "final_model.bin").stat().st_size < found.total_bytes
