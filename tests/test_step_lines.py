"""Where a script says how far it is: every form that is in use, and nothing else."""

import pytest

from agent import step_lines


@pytest.mark.parametrize(
    ("line", "step", "steps", "train", "any_loss"),
    [
        ("step:120/300 train_loss:5.1234 train_time:9876ms step_avg:82.30ms", 120, 300, "5.1234", "5.1234"),
        ("step:1000/20000 val_loss:2.5 val_bpb:1.1 train_time:9ms", 1000, 20000, None, "2.5"),
        ("4000/20000 val_loss: 2.5 val_bpb: 1.1", 4000, 20000, None, "2.5"),
        ("Step 7/9 | lr 1e-3 | Train_Loss: -1.5E-3, tokens/s 9", 7, 9, "-1.5E-3", "-1.5E-3"),
        (" 3/300 loss 5.25 dt: 1", 3, 300, None, "5.25"),
        ("step:3/300 train_loss:nan", 3, 300, "nan", "nan"),
        ("step:3/300 train_loss:.", 3, 300, ".", "."),
        (f"step:3/300 {'x' * 300} train_loss:5.1", 3, 300, None, None),
        ("step:3/300 train_loss:\u0131nf", 3, 300, None, None),
        ("step:3/300 lossless:5.1", 3, 300, None, None),
    ],
)
def test_a_line_says_its_step_and_its_losses(
    line: str, step: int, steps: int, train: str | None, any_loss: str | None
) -> None:
    (found,) = step_lines.read(f"before\n{line}\nloss: 4.2 at 1/2\n")
    assert (found.step, found.steps, found.loss("train_loss"), found.loss()) == (step, steps, train, any_loss)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "\rstep 00001 (0.3%) | loss: 9.011 | lrm: 1\rstep 00123 (41.5%) | loss: 3.250000 | dt: 9ms    ",
            (0.415, 3.25),
        ),
        ("step 00123 (101.0%) | loss: nan |", None),
        ("step 9 (101.0%) | loss: 1.2.3 |", (1.0, None)),
        ("step 9 (1.2.3%) | loss: 1.2 |", None),
        ("step 9 of 10", None),
    ],
)
def test_a_script_may_count_percent_of_its_time(text: str, found: tuple[float, float] | None) -> None:
    assert step_lines.part(text) == found and step_lines.read(text) == []


def test_what_the_judge_goes_by_is_an_official_form() -> None:
    assert step_lines.official("step:120/300 train_loss:5.1") == step_lines.official("120/300 val_loss: 5") == 120
    assert not any(map(step_lines.official, ("Step 120/300 loss: 5", " 120/300 loss: 5", "step:120/300 time:1ms")))


@pytest.mark.parametrize(
    ("text", "number"), [("5.1", 5.1), ("1e-3", 0.001), ("nan", None), ("1e999", None), (".", None)]
)
def test_only_a_finite_loss_is_a_number(text: str, number: float | None) -> None:
    assert step_lines.finite(text) == number


def test_the_first_steps_that_both_name_are_compared() -> None:
    assert step_lines.same_start({1: "5.0", 2: "4.0", 4: "3.0"}, {1: "5.0", 3: "9.9", 4: "3.1"}) == 1
    assert step_lines.same_start({1: 5.0, 2: 4.0}, {2: 4.0, 1: 5.0}) == 2
