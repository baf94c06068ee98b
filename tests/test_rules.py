"""Each rule of the contest: what breaks it, what proves that it is kept, and what can't be known."""

from dataclasses import replace

import pytest

from agent.judge import rules
from agent.judge.logs import reported
from agent.judge.overlap import Overlap
from agent.judge.rules.payload import unpack
from agent.judge.rules.ruling import Case, Limits, Log, Ruling
from agent.judge.rules.static import of_layers
from agent.records import Finding
from tests.contest_logs import EXACT, LOSS, log
from tests.filling import measurement

SCORED = measurement(1, 2.3, trust="blind")
RUN = Case("run", "r1", measured=SCORED, audited="a full audit of 6,000 positions", floor=True, walls=("namespaces",))
ANSWERS = {4, 5, 6, 7, 8, 9, 11}
BLIND_PROVES = {1, 2, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 25}


def said(case: Case, number: int) -> Ruling:
    return next(one for one in rules.rulings(case) if one.rule == number)


def found(*names: str, severity: str = "invalid") -> Case:
    findings = tuple(Finding(name, severity, f"{name} was seen") for name in names)  # type: ignore[arg-type]
    return replace(RUN, measured=replace(SCORED, findings=findings))


def of_script(text: str) -> Case:
    layers = unpack("train_gpt.py", text.encode())
    return Case(
        "script", "x", layers, tuple(of_layers(layers)), files={"train_gpt.py": len(text)}, script="train_gpt.py"
    )


def of_log(text: str, **changes: object) -> Case:
    return Case("log", "x", logs=(Log("train.log", reported(text)),), **changes)  # type: ignore[arg-type]


def test_there_is_one_function_for_each_rule() -> None:
    assert [one.number for one in rules.RULES] == list(range(1, 26))
    assert len({one.name for one in rules.RULES}) == 25 and all(one.reason for one in rules.RULES)
    assert {one.severity for one in rules.RULES} == {"invalid", "flag", "policy"}
    assert [one.number for one in rules.RULES if one.severity == "policy"] == [10, 16, 17]


def test_a_run_that_was_scored_blind_is_proven_where_that_proves_anything() -> None:
    states = {one.rule: one.state for one in rules.rulings(RUN)}
    assert {number for number, state in states.items() if state == "passed"} == BLIND_PROVES
    assert set(states.values()) == {"passed", "unknown"}


def test_an_accusation_that_was_not_repeated_leaves_nothing_proven() -> None:
    case = found("repeat_unfinished", severity="flag")
    states = {one.rule: (one.state, one.severity) for one in rules.rulings(case)}
    assert {number for number, one in states.items() if one == ("violated", "flag")} == {4, 5, 6, 7, 8, 9, 11}


def test_hidden_documents_prove_that_no_text_is_carried_where_they_are_enough() -> None:
    """Where nothing is known of the text's information."""
    case = replace(RUN, floor=False)
    assert said(case, 1).state == "unknown"
    told = said(replace(case, hidden="a gap of more than 0.2 % is excluded"), 1)
    assert (told.state, told.words) == ("passed", "a gap of more than 0.2 % is excluded")
    for severity in ("flag", "invalid"):
        broken = said(replace(found("holdout_gap", severity=severity), hidden="excluded"), 1)
        assert (broken.state, broken.severity) == ("violated", severity)


def test_a_reported_score_proves_nothing_of_scoring() -> None:
    case = replace(RUN, measured=replace(SCORED, trust="reported"), audited="")
    states = {one.rule: one.state for one in rules.rulings(case)}
    for number in (1, 2, 4, 5, 6, 7, 8, 9, 11, 16, 20, 22, 25):
        assert states[number] != "passed" or number == 25, number
    assert said(replace(RUN, audited=""), 7).state == "unknown"


def test_what_was_not_looked_at_closely_enough_to_be_blind_proves_nothing_of_its_answers() -> None:
    quick = replace(RUN, measured=replace(SCORED, trust="measured"), audited="a quick audit of 64 positions")
    states = {one.rule: (one.state, one.words) for one in rules.rulings(quick)}
    assert {number for number, (state, _) in states.items() if state == "passed"} == BLIND_PROVES - ANSWERS
    assert all("not so that it proves anything: a quick audit of 64 positions" in states[n][1] for n in ANSWERS)


def test_a_text_that_comes_back_in_a_normal_form_does_not_come_back_byte_for_byte() -> None:
    assert "byte for byte" in said(RUN, 20).words
    note = Finding("normal_form", "note", "documents come back in normal form 'nfc'")
    told = said(replace(RUN, measured=replace(SCORED, findings=(note,))), 20)
    assert (told.state, told.words) == ("passed", note.text)
    assert said(found("normal_form", severity="flag"), 20).state == "violated"


@pytest.mark.parametrize(
    ("walls", "proven"), [(("unsafe",), ()), ((), ()), (("pod",), (22,)), (("landlock",), (2, 17, 22))]
)
def test_what_a_script_could_reach_is_proven_by_walls_alone(walls: tuple[str, ...], proven: tuple[int, ...]) -> None:
    states = {number: said(replace(RUN, walls=walls), number).state for number in (2, 17, 22)}
    assert states == {number: "passed" if number in proven else "unknown" for number in states}


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("below_floor", {1}),
        ("holdout_gap", {1, 2}),
        ("holdout_ruined", {1, 2}),
        ("not_normalised", {7, 8}),
        ("scores_not_repeated", {4, 5, 6, 9}),
        ("mean_mismatch", {4, 5, 6, 9}),
        ("surprise_mismatch", {4, 5, 6, 9}),
        ("replay_differs", {5, 11}),
        ("peek_changes_state", {5, 11}),
        ("network", {22}),
        ("code_changed", {24}),
        ("implied_bytes", {18}),
        ("several_runs", {21}),
    ],
)
def test_what_the_judge_finds_breaks_its_rules(name: str, broken: set[int]) -> None:
    violated = [one for one in rules.rulings(found(name)) if one.state == "violated"]
    assert {one.rule for one in violated} == broken
    assert all(one.severity == "invalid" and one.evidence == (f"{name}: {name} was seen",) for one in violated)
    flagged = [one for one in rules.rulings(found(name, severity="flag")) if one.state == "violated"]
    assert {one.rule for one in flagged} == broken and {one.severity for one in flagged} == {"flag"}
    assert not [one for one in rules.rulings(found(name, severity="note")) if one.state == "violated"]


def test_a_proof_outweighs_what_only_asked_for_an_eye() -> None:
    text = "def eval_val(model, val_tokens):\n    loss = model(val_tokens)\n    loss.backward()\n"
    case = of_script(text)
    assert (said(case, 5).state, said(case, 5).severity) == ("violated", "flag")
    proven = replace(RUN, signs=case.signs, layers=case.layers)
    assert said(proven, 5).state == "passed" and "line 3" in said(proven, 5).evidence[0]
    hidden = replace(RUN, signs=of_script("exec(input())").signs)
    assert said(hidden, 24).state == "violated" and said(hidden, 24).severity == "invalid"


@pytest.mark.parametrize(
    ("shared", "state", "severity"),
    [(0, "passed", "invalid"), (3, "violated", "flag"), (40_000, "violated", "invalid")],
)
def test_documents_of_both_sides(shared: int, state: str, severity: str) -> None:
    told = said(replace(RUN, overlap=Overlap("d", 10**6, 50_000, shared, ("first",))), 3)
    assert (told.state, told.severity) == (state, severity)
    assert said(RUN, 3).state == "unknown"


def test_verdicts_of_the_idea_are_rules_too() -> None:
    assert said(replace(RUN, verdict="seed_ignored: r1 and r2 hardly differ"), 21).severity == "invalid"
    assert said(replace(RUN, verdict="over_budget: r1: 99 CPU-seconds"), 14).state == "violated"


def test_clocks_sizes_and_counts_of_a_log() -> None:
    fine = of_log(log())
    assert {one.rule for one in rules.rulings(fine) if one.state == "passed"} == {13, 14, 15, 18, 19}
    slow = of_log(log().replace("600028ms", "601153ms"))
    assert said(slow, 14).severity == "invalid" and "601.2 s" in said(slow, 14).evidence[0]
    assert said(of_log(log().replace("600028ms", "600900ms")), 14).state == "passed"
    free = of_log(log().replace("600028ms", "14400000ms"), limits=Limits(train_s=None, score_s=None))
    assert said(free, 14).state == "unknown"
    big = of_log(log().replace("submission size int8+zlib: 15874829", "submission size int8+zlib: 16000001"))
    assert said(big, 15).state == "violated" and "16,000,001" in said(big, 15).words
    part = of_log(log().replace("tokens:62021632", "tokens:8000000"))
    assert said(part, 19).state == "violated" and said(part, 18).state == "violated"
    double = of_log(log(finals=LOSS + EXACT.replace("1.22756946", "1.04509573")))
    assert said(double, 18).severity == "invalid"


OWN = (
    "val_bpb:enabled tokenizer_kind=byte tokenizer_path=tiny\n"
    "val_loader:shards pattern=./data/fineweb_val_*.bin tokens:173069\nseed:1\n"
    "step:100/100 val_loss:1.6000 val_bpb:2.3083 train_time:20000ms\n"
    "final_int8_zlib_roundtrip_exact val_loss:1.60000000 val_bpb:2.30830000\n"
)


def test_a_text_that_is_not_the_contests_has_bytes_of_its_own() -> None:
    for number in (18, 19):
        told = said(of_log(OWN), number)
        assert told.state == "unknown" and "173,069 tokens make" in told.words, number
        assert "nothing says that it scores the contest's validation set" in told.words
        assert said(of_log(log() + OWN), number).state == "unknown"  # of two runs one proves nothing of the other
        assert said(of_log(OWN, contest=True), number).severity == "invalid"
        assert (
            said(of_log(log().replace("tokens:62021632", "tokens:8000000"), contest=False), number).state == "unknown"
        )


@pytest.mark.parametrize(
    "change",
    [
        ("tokenizer_path=tiny", "tokenizer_path=./data/tokenizers/fineweb_1024_bpe.model"),
        ("./data/fineweb_val", "./data/datasets/fineweb10B_sp1024/fineweb_val"),
        ("val_bpb:2.30830000", "val_bpb:0.94760741"),  # a constant of one of its tokenizers
        ("tokens:173069", "tokens:62021632"),
    ],
)
def test_a_part_of_the_contests_set_is_found_by_whatever_names_it(change: tuple[str, str]) -> None:
    assert change[0] in OWN
    told = said(of_log(OWN.replace(*change)), 19)
    assert (told.state, told.severity) == ("violated", "invalid")


def test_no_later_line_and_no_later_run_takes_time_back() -> None:
    slow = log().replace("600028ms", "700000ms")
    over = said(of_log(f"{slow}ttt_warm train_time:5000ms\n"), 14)
    assert (over.state, over.severity) == ("violated", "invalid") and "700.0 s" in over.evidence[0]
    first = said(of_log(slow + log(2)), 14)
    assert first.state == "violated" and first.evidence == ("train.log, run 1: 700.0 s",)
    assert said(of_log(log() + log(2)), 14).state == "passed"
    asked = log(finals=LOSS.replace("1401ms", "688000ms") + EXACT)
    big = log().replace("submission size int8+zlib: 15874829", "submission size int8+zlib: 16000001")
    assert said(of_log(asked + log(2)), 13).evidence == ("train.log, run 1: 688.0 s",)
    assert said(of_log(big + log(2)), 15).evidence == ("train.log, run 1: 16,000,001 bytes",)


def test_several_runs_in_one_log_are_several_seeds() -> None:
    told = said(of_log(log(1) + log(2)), 21)
    assert (told.state, told.severity) == ("violated", "flag") and "2 runs" in told.words


def test_pickles_and_policy() -> None:
    assert said(of_script("x = 1\n" * 99), 25).state == "passed"
    assert said(of_script("import pickle\npickle.load(f)\n"), 25).state == "violated"
    assert said(of_script("import subprocess\nsubprocess.run(['lrzip'])\n"), 17).severity == "policy"
    assert said(RUN, 10).state == "unknown" and said(RUN, 10).severity == "policy"


@pytest.mark.parametrize("unseen", ["exec('def f(')\n", "exec(input())\n", f"def f():\n f{'()' * 800}[0] = 5\n"])
def test_of_a_script_that_is_not_read_whole_nothing_is_said_that_it_does_not_show(unseen: str) -> None:
    clean, part = of_script("x = 1\n" * 99), of_script("x = 1\n" * 99 + unseen)
    assert (said(part, 24).state, said(part, 25).state) == ("violated", "unknown")
    for number, words in ((1, "no literal of its script"), (22, "its text fetches nothing"), (25, "reads no pickle")):
        assert words in said(clean, number).words and words not in said(part, number).words


def test_documents_are_told_apart_or_not_and_neither_bars_anybody() -> None:
    assert said(RUN, 10).state == "unknown" and "full audit" in said(RUN, 10).words
    assert said(replace(RUN, across=(8, 0)), 10).state == "passed"
    runs_on = said(replace(RUN, across=(8, 3)), 10)
    assert (runs_on.state, runs_on.severity) == ("violated", "policy") and "at 3 of 8 documents" in runs_on.words
    assert said(replace(RUN, across=(8, 3), measured=replace(SCORED, trust="reported")), 10).state == "unknown"


def test_calibration_is_bounded_by_our_clock_or_told_by_the_log() -> None:
    trained = "step:13780/20000 train_loss:2.0 train_time:590000ms step_avg:43.54ms\n"
    late, soon, none = (
        trained + more
        for more in (
            "GPTQ:collected 67 Hessians in 12.7s\n",
            "GPTQ:collected 67 Hessians in 9.1s\n",
            "GPTQ:collecting\n",
        )
    )
    told = said(of_log(late), 12)
    assert (told.state, told.severity) == ("violated", "flag")
    assert told.words == "train.log: training ended at 590.0 s and calibration at 602.7 s, 600 s are allowed"
    assert said(of_log(soon), 12).state == "passed" and said(of_log(none), 12).state == "unknown"
    assert "nothing says" in said(of_log(none), 12).words
    assert said(of_log(late, limits=Limits(train_s=None)), 12).state == "unknown"
    logs = of_log(late).logs
    within = said(replace(RUN, logs=logs, measured=replace(SCORED, train_wall_s=598.0)), 12)
    assert within.state == "passed" and "598.0 s by our clock, 600 s are allowed" in within.words
    over = replace(RUN, logs=logs, measured=replace(SCORED, train_wall_s=640.0))
    assert said(over, 12).state == "violated" and said(replace(over, logs=of_log(soon).logs), 12).state == "passed"
    assert said(replace(RUN, limits=Limits(train_s=None)), 12).state == "passed"


def test_scoring_keeps_its_clock_by_what_its_answers_took() -> None:
    within = replace(RUN, score_s=590.0, measured=replace(SCORED, score_wall_s=650.0))
    assert said(within, 13).state == "passed" and "590.0 s by our clock" in said(within, 13).words
    over = said(replace(within, score_s=617.0), 13)
    assert (over.state, over.severity) == ("violated", "flag") and "617.0 s by our clock" in over.words
    unknown = said(replace(within, score_s=None), 13)
    assert unknown.state == "unknown" and "not known" in unknown.words
    assert said(replace(RUN, measured=replace(SCORED, score_wall_s=30.0)), 13).state == "passed"


def test_no_log_proves_that_training_kept_its_clock_where_ours_says_more() -> None:
    logs = of_log("step:9/9 train_loss:2.0 train_time:600000ms step_avg:1ms\n").logs
    within = said(replace(RUN, logs=logs, measured=replace(SCORED, train_wall_s=599.0)), 14)
    assert within.state == "passed" and "599.0 s by our clock" in within.words
    over = said(replace(RUN, logs=logs, measured=replace(SCORED, train_wall_s=850.0)), 14)
    assert over.state == "unknown" and "850.0 s by our clock" in over.words
    assert said(replace(RUN, logs=logs, measured=replace(SCORED, trust="reported")), 14).state == "passed"


def test_text_out_of_packages_is_flagged_though_nothing_was_fetched() -> None:
    signs = of_script("import argparse\ntext = argparse.__doc__").signs
    read = said(replace(RUN, signs=signs), 22)
    assert (read.state, read.severity) == ("violated", "flag") and "(argparse.__doc__)" in read.words
    assert said(RUN, 22).state == "passed"
