"""What strangers hand in: what is read of it, and what is wrong with a package."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from agent.job.folder import JobResult, PhaseResult
from agent.judge import exhibits
from agent.judge.rules import rulings
from agent.judge.submission import script_of
from agent.report import judged
from sandbox.limits import Exit
from tests.contest_logs import EXACT, LOSS, log
from tests.exhibiting import SCRIPT, claim, problems, said, seed_log
from trainer import pack


def test_a_whole_submission_passes(submission: Path) -> None:
    found = judged.report(exhibits.of_path(submission))
    assert (found.verdict, found.problems) == ("clean", ())
    passed = {one.rule for one in found.rulings if one.state == "passed"}
    assert passed == {13, 14, 15, 16, 17, 18, 19, 23, 25}
    assert found.table is not None and found.table.mean == pytest.approx(1.22756946)
    text = judged.words(found)
    assert text.startswith("NO FAULT FOUND") and "mean 1.22756946, standard deviation 0.00000001 (n - 1)" in text


# ------------------------------------------------------------ packages that were merged although they were broken


@pytest.mark.parametrize("name", ["README.md", "submission.json", "train_gpt.py"])
def test_a_file_that_is_missing(submission: Path, name: str) -> None:
    (submission / name).unlink()
    missing = {"README.md": "no_readme", "submission.json": "no_json", "train_gpt.py": "no_script"}[name]
    assert missing in problems(submission)
    assert judged.report(exhibits.of_path(submission)).verdict == "invalid"


def test_a_script_without_content(submission: Path) -> None:
    (submission / "train_gpt.py").write_text("")
    assert "empty_script" in problems(submission)
    (submission / "train_gpt.py").write_text("exec(open('train_gpt_human.py').read())\n")
    (submission / "train_gpt_human.py").write_text(SCRIPT + "import requests\n")
    assert "empty_script" in problems(submission)
    assert said(submission, 16).state == "violated" and "train_gpt_human.py" in " ".join(said(submission, 16).evidence)
    assert said(submission, 22).severity == "invalid"  # what it executes is looked at


def test_another_name_a_null_author_an_absent_file_and_settings(submission: Path) -> None:
    (submission / "train_gpt.py").rename(submission / "train_gpt_v5.py")
    claim(submission, author=None)
    (submission / "README.md").write_text(
        "NUM_LAYERS=11 QK_GAIN=4 SEED=7 torchrun --nproc_per_node=8 train_gpt_sweep.py\n"
    )
    found = {one.name: one for one in exhibits.of_path(submission).problems}
    assert set(found) == {"script_name", "no_author", "absent_file", "needs_environment"}
    assert "train_gpt_sweep.py" in found["absent_file"].words
    assert "NUM_LAYERS, QK_GAIN" in found["needs_environment"].words


def test_commands_over_several_lines_and_of_the_contests_own_scripts(submission: Path) -> None:
    (submission / "README.md").write_text(
        "```bash\npython3 data/cached_challenge_fineweb.py --variant sp1024\nSEED=1 \\\nQK_GAIN=5 \\\n"
        "torchrun --nproc_per_node=8 records/track_10min_16mb/2026-04-01_ARecord/train_gpt.py\n```\n"
    )
    (only,) = exhibits.of_path(submission).problems
    assert only.name == "needs_environment" and only.words.endswith(": QK_GAIN")


@pytest.mark.parametrize("text", ["{", "[]", '{"val_bpb": NaN}', "[" * 100_000, '{"val_bpb": "1.2"}', "\xff"])
def test_a_json_that_is_none(submission: Path, text: str) -> None:
    (submission / "submission.json").write_text(text, "latin-1")
    assert set(problems(submission)) & {"bad_json", "bad_val_bpb"}


# ------------------------------------------------------------ figures beside the logs


def test_figures_that_are_not_those_of_the_logs(submission: Path) -> None:
    claim(submission, val_bpb=1.2175, val_bpb_std=0.01, bytes_total=15_000_000)
    assert problems(submission) == ["other_score", "other_std", "other_size"]
    results = {"1": {"val_bpb": 1.2}, "2": {"val_bpb": 1.22756946}, "9": {"val_bpb": 1.2}}
    claim(submission, seed_results=results)
    assert problems(submission) == ["other_seed_score", "no_log_of_seed", "seed_left_out"]


def test_a_standard_deviation_over_n_is_told(submission: Path) -> None:
    for seed, bpb in ((1, 1.22750000), (2, 1.22800000), (3, 1.22850000)):
        (submission / f"train_seed{seed}.log").write_text(seed_log(seed, bpb))
    claim(submission, val_bpb=1.228, val_bpb_std=0.00040825, seed_results=None)
    assert problems(submission) == ["std_divides_by_n"]
    claim(submission, val_bpb=1.228, val_bpb_std=0.0005, seed_results=None)
    assert problems(submission) == []


def test_code_is_counted_as_it_is_shipped(submission: Path) -> None:
    (submission / "train_gpt.py").write_text(SCRIPT + "# more\n" * 30_000)
    wrapped = said(submission, 16)
    assert (wrapped.state, wrapped.severity) == ("violated", "policy") and "210,3" in wrapped.words
    over = said(submission, 15)
    assert over.state == "violated" and "model with the code as shipped" in over.evidence[0]


def test_a_packed_script_is_read_and_counted(submission: Path) -> None:
    packed = pack._wrap(pack._forms()[0], (SCRIPT + "import httpx\n").encode())
    (submission / "train_gpt.py").write_bytes(packed)
    assert said(submission, 22).severity == "invalid" and "httpx" in said(submission, 22).words


def test_a_size_over_the_limit_and_a_clock_over_its_own(submission: Path) -> None:
    text = seed_log(3).replace("15874829", "16000001").replace("600028ms", "601153ms").replace("1401ms", "688000ms")
    (submission / "train_seed3.log").write_text(text)
    for number in (13, 14, 15):
        assert (said(submission, number).state, said(submission, number).severity) == ("violated", "invalid"), number
        assert "train_seed3.log" in said(submission, number).evidence[0]
    claim(submission, track="track_non_record_16mb")
    assert said(submission, 14).state == "unknown" and said(submission, 15).state == "violated"


def test_seeds_that_are_not_what_files_are_called(submission: Path) -> None:
    (submission / "train_seed2.log").write_text(seed_log(1))
    found = said(submission, 21)
    assert found.state == "violated" and found.severity == "flag"
    assert any("named after seed 2" in one for one in found.evidence)
    assert any("several logs with seed 1" in one for one in found.evidence)
    (submission / "train_seed2.log").unlink()
    assert said(submission, 23).state == "violated"


def test_one_log_under_the_names_of_several_seeds_is_one_run(submission: Path) -> None:
    for seed in (1, 2, 3):
        (submission / f"train_seed{seed}.log").write_text(seed_log(seed, 1.2275))
    found = said(submission, 23)
    assert (found.state, found.severity, len(found.evidence)) == ("violated", "invalid", 3)
    assert "train_seed1.log and train_seed2.log name seeds 1 and 2" in found.words and "600,028 ms" in found.words
    assert judged.report(exhibits.of_path(submission)).verdict == "invalid"
    for seed in (1, 2, 3):
        other_time = seed_log(seed, 1.2275).replace("600028ms", f"60002{seed}ms")
        (submission / f"train_seed{seed}.log").write_text(other_time)
    assert said(submission, 23).severity == "flag" and "every digit of score" in said(submission, 23).words
    for seed in (1, 2, 3):
        short = seed_log(seed, 1.2276).replace("val_bpb:1.22760000", "val_bpb:1.2276")
        (submission / f"train_seed{seed}.log").write_text(short)
    assert (said(submission, 23).state, said(submission, 23).severity) == ("violated", "flag")
    steps = "".join(f"step:{at}/20000 train_loss:2.{at} train_time:{{}}ms step_avg:43ms\n" for at in range(1, 7))
    for seed in (1, 2, 3):
        lines = steps.replace("{}", str(seed))
        text = seed_log(seed).replace("step:13450", f"{lines}step:13450", 1)
        (submission / f"train_seed{seed}.log").write_text(text)
    assert said(submission, 23).severity == "flag" and "one training" in said(submission, 23).words


def test_a_run_that_two_logs_tell_of_counts_once(submission: Path) -> None:
    (submission / "train.log").write_text(seed_log(2))
    assert said(submission, 23).state == "passed" and said(submission, 23).words.startswith("3 scores")
    for name in ("train_seed1.log", "train_seed3.log"):
        (submission / name).unlink()
    (submission / "a.log").write_text(seed_log(2).replace("seed:2\n", ""))
    (submission / "b.log").write_text(seed_log(2).replace("seed:2\n", ""))
    found = said(submission, 23)
    assert (found.state, found.severity) == ("violated", "flag") and "1 logs have a score (3 more tell" in found.words


def test_the_source_that_a_log_prints_is_compared(submission: Path) -> None:
    bars = "=" * 100 + "\n"
    source = "import os\nimport torch\nfrom pathlib import Path\n\n" + SCRIPT
    (submission / "train_gpt.py").write_text(source)
    (submission / "train_seed1.log").write_text(source + bars + seed_log(1))
    assert said(submission, 24).state == "passed"
    (submission / "train_seed1.log").write_text(source.replace("'train'", "'trains'") + bars + seed_log(1))
    assert said(submission, 24).state == "violated" and "1 lines" in " ".join(said(submission, 24).evidence)


def test_an_artifact_that_is_shipped_is_counted_as_it_lies_there(submission: Path) -> None:
    with (submission / "final_model.int8.ptz").open("wb") as file:
        file.truncate(16_000_000 - len(SCRIPT) + 1)
    found = said(submission, 15)
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
def test_a_model_counts_whatever_it_is_called(submission: Path, name: str) -> None:
    (submission / name).parent.mkdir(exist_ok=True)
    with (submission / name).open("wb") as file:
        file.truncate(17_000_000)
    found = said(submission, 15)
    assert (found.state, found.severity) == ("violated", "invalid")
    assert f"({name}): {17_000_000 + len(SCRIPT):,} bytes" in found.evidence[0]


def test_a_model_in_many_small_files_counts_and_a_few_helpers_do_not(submission: Path) -> None:
    model = submission / "final_model.ptz"
    with model.open("wb") as file:
        file.truncate(16_000_000 - len(SCRIPT))
    for name, size in (("LICENSE", 1_075), ("t.model", 366_000), ("plot.png", 400_000), ("long.log", 3_000_000)):
        (submission / name).write_bytes(b"x" * size)
    (submission / "long.log").write_text(seed_log(4) + "step:9/9 train_loss:2.0\n" * 100_000)
    assert said(submission, 15).state == "passed"
    model.unlink()
    for number in range(18):
        (submission / f"part{number}.dat").write_bytes(bytes(900_000))
    found = said(submission, 15)
    assert found.state == "violated" and "part0.dat, part1.dat, part10.dat and 17 more" in found.evidence[0]


def test_a_submission_is_over_the_contests_set_whatever_its_logs_name(submission: Path) -> None:
    for seed in (1, 2, 3):
        text = re.sub(r"fineweb(10B)?_(sp|)1024(_bpe.model)?", "mine", seed_log(seed))
        text = text.replace("tokens:62021632", "tokens:173069").replace("1.2275", "2.5275")
        (submission / f"train_seed{seed}.log").write_text(text)
    for number in (18, 19):
        assert (said(submission, number).state, said(submission, number).severity) == ("violated", "invalid")
        alone = replace(exhibits.of_path(submission).case, contest=None)
        assert next(one for one in rulings(alone) if one.rule == number).state == "unknown"


def test_that_not_all_logs_were_read_is_said(submission: Path) -> None:
    assert exhibits.of_path(submission).case.notes == ()
    for seed in range(4, exhibits.MOST_LOGS + 2):
        (submission / f"train_seed{seed}.log").write_text(seed_log(seed))
    found = judged.report(exhibits.of_path(submission))
    assert len(found.scores) == exhibits.MOST_LOGS and found.notes == ("of its 65 logs the first 64 were read",)


def test_helpers_are_listed(submission: Path) -> None:
    (submission / "tokenizers").mkdir()
    (submission / "tokenizers" / "a.model").write_bytes(bytes(366_000))
    found = said(submission, 17)
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
