"""The knobs planner: real diffs of literals, no configuration twice, bytes bought back, learning."""

from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import Path

import pytest

from agent.planner import Request, Trial
from agent.planner.edits import apply
from agent.planner.knobs import Knobs, draws
from agent.planner.knobs.sizes import Sizes, estimate, understood
from agent.planner.knobs.space import of
from agent.planner.knobs.surrogate import Additive, Point, Prior
from agent.planner.knobs.view import View
from agent.records import Draft, Mode, Proposal, ProposalState
from agent.script import literals
from agent.script.literals import KnobValue
from agent.tables import Knob
from agent.track import Track, load
from tests.blank import CAMPAIGN

HEAD = Proposal(
    1, 1, "promoted", "", None, None, "c", "", "", "knobs", "base", "base", "", "", "", "", "", {}, 0.0, 0.5,
    None, None, "", (), (), "", "", "",
)  # fmt: skip

TRACK: Track = load("tiny", Path.cwd())[0]
PATH = TRACK.script.path
FILES = {PATH: Path(PATH).read_text("utf-8")}
BASE = literals.read(TRACK, FILES)
LIMIT = TRACK.limits.artifact_bytes or 0
BASE_TRIAL = Trial(1, "promoted", BASE, None, 2.33, 158_000, None, 3, "base")


def trial(
    number: int,
    changes: Mapping[str, KnobValue],
    bpb: float | None,
    state: ProposalState = "worse",
    total: int = 150_000,
) -> Trial:
    gain = None if bpb is None else 2.33 - bpb
    return Trial(number, state, {**BASE, **changes}, gain, bpb, total if bpb else None, 1, 1, "exploit", 1)


def ask(
    *trials: Trial,
    mode: Mode = "exploit",
    source: Trial | None = None,
    head: Trial = BASE_TRIAL,
    n: int | None = None,
    track: Track = TRACK,
    files: Mapping[str, str] = FILES,
    forgotten: Set[str] = frozenset(),
) -> Draft | None:
    there = literals.read(track, files)
    of_head = {k: v for k, v in head.knobs.items() if k in there}
    head_files = literals.write(track, files, of_head)
    at = source or head
    return Knobs(track).propose(
        Request(
            track=track,
            campaign=CAMPAIGN,
            mode=mode,
            head=replace(HEAD, id=head.proposal_id, baseline_id=head.baseline_id),
            source=replace(HEAD, id=at.proposal_id, baseline_id=at.baseline_id),
            files=literals.write(track, files, {k: v for k, v in at.knobs.items() if k in of_head}),
            head_files=head_files,
            trials=(BASE_TRIAL, *trials),
            seed=7,
            n=n if n is not None else 1 + len(trials),
            forgotten=forgotten,
        )
    )


def made(draft: Draft | None, on: Mapping[str, KnobValue] = BASE) -> dict[str, KnobValue]:
    """What the draft changes, after its edits were applied to the files they are for."""
    assert draft is not None
    before = literals.write(TRACK, FILES, on)
    after = apply(draft.edits, before, [PATH])
    assert literals.only_knobs(TRACK, before, after)
    assert literals.read(TRACK, after) == draft.knobs
    return {name: value for name, value in draft.knobs.items() if value != BASE[name]}


def test_a_draft_is_a_real_diff_of_few_literals_and_says_what_it_expects() -> None:
    draft = ask()
    changes = made(draft)
    assert draft is not None
    shape = [name for name in changes if name not in ("weight_bits", "embed_bits", "compressor")]
    assert 1 <= len(shape) <= 3
    assert (draft.planner, draft.kind, draft.source_id) == ("knobs", "knob", 1)
    assert all(name in draft.title for name in changes)
    assert 0 < draft.confidence < 1
    assert draft.expected_bytes is not None and draft.expected_bytes < LIMIT
    assert "BPB expected" in draft.hypothesis


def test_the_same_question_has_the_same_answer_and_pending_ones_are_never_repeated() -> None:
    trials: list[Trial] = []
    for number in range(2, 12):
        draft = ask(*trials)
        if number % 4 == 0:
            assert draft == ask(*trials)
        changes = made(draft)
        assert changes and all(changes != {k: v for k, v in t.knobs.items() if BASE[k] != v} for t in trials)
        trials.append(trial(number, changes, None, "approved" if number % 2 else "running"))


def test_every_setting_is_tried_once_and_then_there_is_no_more() -> None:
    track = TRACK.model_copy(update={"knob": TRACK.knob[:1]})
    trials: list[Trial] = []
    while (draft := ask(*trials, track=track, head=replace(BASE_TRIAL, knobs={"vocab_size": 1024}))) is not None:
        trials.append(replace(trial(len(trials) + 2, {}, 2.4), knobs=draft.knobs))
    # 3,072 and 4,096 can't fit with this one knob, so they are never proposed.
    assert sorted(int(t.knobs["vocab_size"]) for t in trials) == [512, 768]
    assert ask(track=track, files={PATH: "x = 1\n"}, head=replace(BASE_TRIAL, knobs={})) is None


@pytest.mark.parametrize("remembered", [100, 5])
def test_a_space_is_used_up_and_nothing_in_it_is_proposed_twice(remembered: int) -> None:
    """Also when a planner is told of the newest ideas alone."""
    names = ("activation", "train_seq_len", "qk_gain_init")
    track = TRACK.model_copy(update={"knob": tuple(knob for knob in TRACK.knob if knob.name in names)})
    head = replace(BASE_TRIAL, knobs={name: BASE[name] for name in names})
    trials: list[Trial] = []
    while True:
        forgotten = {literals.digest(trial.knobs) for trial in trials[:-remembered]}
        draft = ask(*trials[-remembered:], track=track, head=head, forgotten=forgotten, n=1 + len(trials))
        if draft is None:
            break
        trials.append(replace(trial(len(trials) + 2, {}, 2.34 + len(trials) / 1000), knobs=draft.knobs))
    assert len(trials) == 4 * 3 * 4 - 1
    assert len({literals.digest(trial.knobs) for trial in trials} | {literals.digest(head.knobs)}) == 4 * 3 * 4


def test_in_a_space_of_millions_there_is_more_when_all_that_is_near_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what was drawn nor a neighbour is new; the answer comes as quickly as any other."""
    monkeypatch.setattr(draws, "draw", lambda space, *_: [space.point(BASE)])
    near = [trial(n, {knob.name: choice}, 2.34) for n, (knob, choice) in enumerate(singles(), start=2)]
    draft = ask(*near, n=5)
    changes = made(draft)
    assert len(changes) > 1
    assert draft is not None and draft.expected_bytes is not None and draft.expected_bytes <= LIMIT


def singles() -> list[tuple[Knob, KnobValue]]:
    return [(knob, choice) for knob in TRACK.knob for choice in knob.choices if choice != BASE[knob.name]]


def test_a_given_up_idea_may_come_back_unless_it_has_a_score() -> None:
    track = TRACK.model_copy(
        update={"knob": (Knob(name="activation", at="TINY.activation", group="shape", choices=("relu2", "gelu")),)}
    )
    head = replace(BASE_TRIAL, knobs={"activation": "relu2"})
    tried = replace(trial(2, {}, None, "cancelled"), knobs={"activation": "gelu"})
    assert ask(tried, track=track, head=head) is not None
    assert ask(replace(tried, state="declined"), track=track, head=head) is None
    assert ask(replace(tried, state="unfunded", bpb=2.2), track=track, head=head) is None


def test_shrink_buys_the_bytes_back_without_giving_up_the_idea() -> None:
    big = trial(2, {"vocab_size": 2048}, 2.19, "oversize", 226_000)
    draft = ask(big, mode="shrink", source=big)
    assert draft is not None and draft.source_id == 2
    after = apply(draft.edits, literals.write(TRACK, FILES, {"vocab_size": 2048}), [PATH])
    assert literals.read(TRACK, after) == draft.knobs
    changes = {name: value for name, value in draft.knobs.items() if value != BASE[name]}
    assert changes.pop("vocab_size") == 2048
    assert changes and set(changes) <= {"weight_bits", "embed_bits", "compressor"}
    assert draft.expected_bytes is not None and draft.expected_bytes < LIMIT
    assert draft.expected_gain > 0.05 and draft.confidence > 0.9
    # Not rounded further than it must be: four bits would cost more than they save.
    assert all(int(changes.get(name, 8)) >= 5 for name in ("weight_bits", "embed_bits"))
    assert changes["compressor"] in ("brotli", "lzma", "zstd")


def test_a_shrink_that_was_still_too_big_teaches_the_next() -> None:
    big = trial(2, {"vocab_size": 2048}, 2.19, "oversize", 226_000)
    first = ask(big, mode="shrink", source=big)
    assert first is not None and first.expected_bytes is not None
    still = replace(big, proposal_id=3, knobs=first.knobs, bpb=2.2, total_bytes=LIMIT + 9_000)
    second = ask(big, still, mode="shrink", source=big)
    assert second is not None and second.knobs != first.knobs
    assert second.expected_bytes is not None and second.expected_bytes < LIMIT


def test_an_oversize_winner_of_an_older_head_is_written_anew_on_the_head() -> None:
    big = trial(2, {"vocab_size": 2048}, 2.19, "oversize", 226_000)
    head = replace(trial(3, {"train_batch_tokens": 1024}, 2.29, "promoted"), runs=4)
    draft = ask(big, head, mode="shrink", source=big, head=head)
    changes = made(draft, head.knobs)
    assert draft is not None and draft.source_id == 3 and draft.evidence == ("p2",)
    assert changes["vocab_size"] == 2048 and changes["train_batch_tokens"] == 1024


def test_what_was_learnt_leads_on_in_the_same_direction() -> None:
    good = trial(2, {"train_batch_tokens": 1024}, 2.26, "promoted")
    near = trial(3, {"train_seq_len": 128}, 2.30, "inconclusive")
    bad = [trial(n, {"matrix_lr": lr}, 2.42) for n, lr in ((4, 0.01), (5, 0.04))]
    changes = made(ask(good, near, *bad, head=replace(good, runs=4)), good.knobs)
    assert "matrix_lr" not in changes
    assert changes["train_batch_tokens"] == 512 or changes.get("train_seq_len") == 128


def test_combine_joins_the_changes_of_two_near_misses() -> None:
    one = trial(2, {"train_seq_len": 128}, 2.31, "inconclusive")
    two = trial(3, {"activation": "gelu"}, 2.315, "inconclusive")
    three = trial(4, {"scalar_lr": 0.04}, 2.36)
    changes = made(ask(one, two, three, mode="combine"))
    assert changes == {"train_seq_len": 128, "activation": "gelu"}


def test_widen_changes_more() -> None:
    sizes = [len(made(ask(mode="widen", n=n))) for n in range(1, 5)]
    assert max(sizes) > 3
    assert all(2 <= size <= 8 for size in sizes)


def test_modes_it_does_not_know_are_taken_for_exploit() -> None:
    draft = ask(mode="repair")
    assert draft is not None and draft.mode == "exploit"


def test_a_crash_is_learnt_from() -> None:
    crashed = [
        replace(trial(n, {"num_kv_heads": 1, "scalar_lr": lr}, None, "crashed"), bpb=None)
        for n, lr in ((2, 0.01), (3, 0.02), (4, 0.04))
    ]
    head = replace(HEAD, id=1)
    trials = (BASE_TRIAL, *crashed)
    view = View(Request(TRACK, CAMPAIGN, "exploit", head, head, FILES, FILES, trials, 7, 5))
    at = view.space.point({**BASE, "num_kv_heads": 1})
    assert at is not None
    assert view.effects.difference(at, view.head_at).mean > 0.015


def test_trials_of_a_space_that_changed_or_of_free_edits_do_no_harm() -> None:
    strange = [
        replace(trial(2, {}, 2.3), knobs={}),
        replace(trial(3, {}, 2.3), knobs={"vocab_size": 1024, "gone": 3}),
        trial(4, {"vocab_size": 1333}, 2.2),
        trial(5, {"activation": 7}, 2.3),
    ]
    assert made(ask(*strange))


# The parts


def test_draws_are_repeatable_in_range_and_lean_to_what_was_good() -> None:
    space = of(TRACK.knob, [BASE])
    measured = []
    for i in range(40):
        at = tuple(i * (k + 3) % len(axis.levels) for k, axis in enumerate(space.axes))
        measured.append((at, 2.0 if at[0] == 2 else 3.0))
    points = draws.draw(space, measured, [], 5, 40)
    assert points == draws.draw(space, measured, [], 5, 40) != draws.draw(space, measured, [], 6, 40)
    assert all(0 <= i < len(a.levels) for p in points for i, a in zip(p, space.axes, strict=True))
    near = sum(abs(point[0] - 2) <= 1 for point in points) / len(points)
    assert near > 0.6  # three of seven levels, so 0.43 without anything learnt


def test_pending_points_count_as_bad() -> None:
    space = of(TRACK.knob[:1], [BASE])
    measured = [((i % 7,), 3.0 + 0.01 * i) for i in range(14)] + [((4,), 2.0), ((4,), 2.0)]
    free = draws.draw(space, measured, [], 1, 30).count((4,))
    assert draws.draw(space, measured, [(4,)] * 20, 1, 30).count((4,)) < free


def test_effects_are_recovered_from_noisy_sums() -> None:
    knobs = [Knob(name=n, at=f"T.{n}", group="shape", choices=(1, 2, 3, 4)) for n in "ab"]
    space = of(knobs, [{"a": 2, "b": 2}])
    reference = (1, 1)
    priors = [Prior(0.04, {}), Prior(0.04, {})]
    true = [[0.05, 0.0, -0.06, -0.1], [0.0, 0.0, 0.03, 0.03]]
    points = [
        Point((a, b), 2.3 + true[0][a] + true[1][b] + 0.004 * (-1) ** (a + b), 0.01) for a in range(4) for b in range(4)
    ]
    model = Additive(space, reference, priors, points)
    for level in range(4):
        effect = model.difference((level, 1), reference)
        assert effect.mean == pytest.approx(true[0][level], abs=0.01)
        assert effect.sd < 0.012
    blank = Additive(space, reference, priors, [])
    assert blank.difference((3, 1), reference).sd > 1.5 * blank.difference((2, 1), reference).sd
    one_step = Additive(space, reference, priors, [Point((1, 1), 2.3, 0.01), Point((2, 1), 2.2, 0.01)])
    assert one_step.difference((3, 1), (2, 1)).mean < -0.01  # the direction is expected to go on


# Compressed weights of the reference shape, measured: vocabulary, bits, compressor.
MEASURED = [
    (1024, 8, "zlib", 147_567), (1024, 8, "lzma", 145_484), (1024, 8, "brotli", 143_975),
    (1024, 6, "zlib", 111_562), (1024, 6, "brotli", 103_990), (1024, 5, "lzma", 87_044),
    (1024, 4, "brotli", 65_391), (2048, 8, "zlib", 210_900), (2048, 6, "brotli", 150_600),
    (512, 8, "zlib", 115_700), (4096, 8, "zlib", 336_800),
]  # fmt: skip


def size_of(vocab: int, bits: int, compressor: str, *known: tuple[dict[str, KnobValue], int]) -> tuple[int, bool]:
    space = of(TRACK.knob, [BASE])
    reference = space.point(BASE)
    assert reference is not None
    sizes = Sizes(space, literals.settings(TRACK, FILES), reference, known)
    config = {**BASE, "vocab_size": vocab, "weight_bits": bits, "embed_bits": bits, "compressor": compressor}
    size = sizes.predict(config)
    return size.bytes, size.surely_below(LIMIT)


@pytest.mark.parametrize(("vocab", "bits", "compressor", "weights"), MEASURED)
def test_sizes_are_predicted_within_four_percent(vocab: int, bits: int, compressor: str, weights: int) -> None:
    overhead = 15_000 + 6 * (vocab - 1024)
    known = (dict(BASE), 147_567 + 15_000)
    predicted, _ = size_of(vocab, bits, compressor, known)
    assert predicted == pytest.approx(weights + overhead, rel=0.04)


def test_sizes_learn_from_what_was_measured() -> None:
    plain, fits = size_of(2048, 6, "brotli", (dict(BASE), 160_000))
    assert fits
    big = {**BASE, "vocab_size": 2048}
    learnt, fits = size_of(2048, 6, "brotli", (dict(BASE), 160_000), (big, 250_000))
    assert learnt > 1.05 * plain
    _, fits_without_margin = size_of(2048, 8, "zlib", (dict(BASE), 160_000))
    assert not fits_without_margin


def test_the_size_of_any_script_is_estimated_from_what_was_measured_of_others() -> None:
    settings = literals.settings(TRACK, FILES)
    assert understood(TRACK.knob, settings)
    assert not understood(TRACK.knob, {"width": 3}) and not understood((), settings)
    measured: list[tuple[dict[str, KnobValue], int]] = [({}, 5), (dict(BASE), 158_000)]
    wider = estimate(TRACK.knob, settings, {**BASE, "model_dim": 80}, measured)
    assert wider is not None and wider == pytest.approx(224_051, rel=0.06)
    assert estimate(TRACK.knob, settings, BASE, measured) == pytest.approx(158_000, rel=0.01)
    assert estimate(TRACK.knob, settings, {**BASE, "model_dim": 80}, measured[:1]) is None
