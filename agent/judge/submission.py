"""A submission's folder: whether everything is in it that has to be, and whether its figures agree with its logs.

Takes file names, README, submission.json and what the logs say; gives `Problem`s and a `Table`. Pure.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, pstdev, stdev
from typing import Literal, NamedTuple, TypeGuard

from agent.judge.rules.ruling import Log

README, JSON, SCRIPT = "README.md", "submission.json", "train_gpt.py"
MOST = 1e15  # of any figure
LEAST_SCRIPT = 200  # bytes: less holds no training
ROUNDED = 6e-5  # of a figure that is printed with four digits
WANTED = ("author", "github_id", "name", "date", "val_bpb")
_RUN = re.compile(r"^[ \t]*(?:[$>] ?)?((?:[A-Z][A-Z0-9_]*=\S* +)*)(?:torchrun|python3?|uv run)\b([^\n]*)", re.MULTILINE)
_SCRIPT_NAME = re.compile(r"([\w./-]{1,100}\.py)\b")
# What a machine sets, not the configuration.
_USUAL = frozenset(
    ("SEED", "RUN_ID", "DATA_PATH", "TOKENIZER_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "NCCL_IB_DISABLE")
)
MOST_README = 400_000  # characters that are looked at


class Problem(NamedTuple):
    """Something wrong with the package, which is no breach of a rule."""

    name: str
    severity: Literal["error", "warning"]
    words: str


class Row(NamedTuple):
    log: str
    seed: int | None
    bpb: float | None
    loss: float | None
    total_bytes: int | None
    steps: int | None
    train_s: float | None
    score_s: float | None


class Table(NamedTuple):
    """One row a log, and what they come to."""

    rows: tuple[Row, ...]
    mean: float | None
    std: float | None  # n - 1


def parse(text: bytes | None) -> tuple[dict[str, object] | None, str]:
    """submission.json, and what is wrong with it."""
    if text is None:
        return None, ""
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return None, str(error)[:200]
    return (found, "") if isinstance(found, dict) else (None, "it is no object")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def table(logs: Sequence[Log]) -> Table:
    rows = tuple(_row(log) for log in logs)
    scores = [row.bpb for row in rows if row.bpb is not None]
    return Table(rows, fmean(scores) if scores else None, stdev(scores) if len(scores) > 1 else None)


def _row(log: Log) -> Row:
    said = log.said
    train, score = said.train_ms, said.eval_ms
    return Row(
        log.name, said.seed, said.bpb, said.loss, said.total_bytes, said.steps,
        None if train is None else train / 1000, None if score is None else score / 1000,
    )  # fmt: skip


def lint(
    files: Mapping[str, int],
    script: str,
    readme: str | None,
    claims: Mapping[str, object] | None,
    broken: str,
    found: Table,
) -> list[Problem]:
    """Everything that is wrong with the package. `broken`: why submission.json can't be read."""
    problems = [*_missing(files, script, broken), *_script(files, script)]
    if readme is not None:
        problems += _commands(readme[:MOST_README], files)
    if claims is not None:
        problems += [*_keys(claims), *_figures(claims, found)]
    if not found.rows:
        problems.append(Problem("no_log", "error", "there is no training log"))
    elif found.mean is None:
        problems.append(Problem("no_score", "error", "no log holds a final score"))
    return problems


def _missing(files: Mapping[str, int], script: str, broken: str) -> list[Problem]:
    problems = []
    for name in (README, JSON):
        if name not in files:
            problems.append(Problem(f"no_{'json' if name == JSON else 'readme'}", "error", f"{name} is missing"))
    if broken:
        problems.append(Problem("bad_json", "error", f"{JSON} can't be read: {broken}"))
    if not script:
        problems.append(Problem("no_script", "error", f"{SCRIPT} is missing, and so is any other script"))
    elif script != SCRIPT:
        problems.append(Problem("script_name", "warning", f"the script is called {script}, not {SCRIPT}"))
    return problems


def _script(files: Mapping[str, int], script: str) -> list[Problem]:
    size = files.get(script)
    if size is None or size >= LEAST_SCRIPT:
        return []
    return [Problem("empty_script", "error", f"{script} has {size} bytes: it can hold no training")]


def _commands(readme: str, files: Mapping[str, int]) -> list[Problem]:
    problems = []
    settings: set[str] = set()
    shipped = {one.rsplit("/", 1)[-1] for one in files}
    for found in _RUN.finditer(readme.replace("\\\n", " ")):
        for name in _SCRIPT_NAME.findall(found[2]):
            plain = name.removeprefix("./")
            ours = "/" not in plain or plain.startswith("records/")  # data/x.py is the contest's own
            if ours and plain.rsplit("/", 1)[-1] not in shipped:
                words = f"{README} runs {name}, which is not in the folder"
                problems.append(Problem("absent_file", "error", words))
        settings |= {part.split("=")[0] for part in found[1].split()} - _USUAL
    if settings:
        few = ", ".join(sorted(settings)[:12])
        words = f"to run it again needs variables that are no defaults of the script: {few}"
        problems.append(Problem("needs_environment", "warning", words))
    return list(dict.fromkeys(problems))


def _keys(claims: Mapping[str, object]) -> list[Problem]:
    problems = []
    for key in WANTED:
        if claims.get(key) in (None, ""):
            problems.append(Problem(f"no_{key}", "error", f"{JSON} says no {key}"))
    bpb = claims.get("val_bpb")
    if bpb is not None and not _is_number(bpb):
        problems.append(Problem("bad_val_bpb", "error", f"val_bpb in {JSON} is no number"))
    return problems


def _figures(claims: Mapping[str, object], found: Table) -> list[Problem]:
    """What submission.json says beside what the logs come to."""
    problems = []
    scores = [row.bpb for row in found.rows if row.bpb is not None]
    said = claims.get("val_bpb")
    if scores and _is_number(said) and not _near(float(said), scores, found.mean):
        words = f"{JSON} says val_bpb {said}; the logs come to {found.mean:.8f} (n = {len(scores)})"
        problems.append(Problem("other_score", "error", words))
    std = claims.get("val_bpb_std")
    if len(scores) > 1 and _is_number(std):
        problems += _spread(float(std), scores)
    problems += _seeds(claims, found)
    total = claims.get("bytes_total")
    logged = [row.total_bytes for row in found.rows if row.total_bytes is not None]
    if type(total) is int and logged and total not in logged and abs(total - max(logged)) > 0:
        words = f"{JSON} says {total:,} bytes; the logs say {max(logged):,} at most"
        problems.append(Problem("other_size", "warning", words))
    return problems


def _near(said: float, scores: Sequence[float], mean: float | None) -> bool:
    """The mean, or the one score of a submission with one."""
    wanted = [mean, *(scores if len(scores) == 1 else [])]
    return any(one is not None and abs(said - one) <= ROUNDED for one in wanted)


def _spread(said: float, scores: Sequence[float]) -> list[Problem]:
    right, other = stdev(scores), pstdev(scores)
    if abs(said - right) <= ROUNDED:
        return []
    if abs(said - other) <= ROUNDED:
        words = f"val_bpb_std {said} divides by n; with n - 1 it is {right:.8f}"
        return [Problem("std_divides_by_n", "warning", words)]
    return [
        Problem("other_std", "warning", f"{JSON} says a standard deviation of {said}; the logs come to {right:.8f}")
    ]


def _seeds(claims: Mapping[str, object], found: Table) -> list[Problem]:
    results = claims.get("seed_results")
    if not isinstance(results, dict):
        return []
    by_seed = {row.seed: row.bpb for row in found.rows if row.seed is not None and row.bpb is not None}
    problems = []
    for seed, values in list(results.items())[:64]:
        said = values.get("val_bpb") if isinstance(values, dict) else values
        if not _is_seed(seed) or not _is_number(said):
            continue
        logged = by_seed.get(int(seed))
        if logged is None:
            problems.append(
                Problem("no_log_of_seed", "error", f"no log shows seed {seed}, which {JSON} has a result of")
            )
        elif abs(float(said) - logged) > ROUNDED:
            words = f"seed {seed}: {JSON} says {said}, its log {logged:.8f}"
            problems.append(Problem("other_seed_score", "error", words))
    left_out = sorted(set(by_seed) - {int(seed) for seed in results if _is_seed(seed)})
    if left_out:
        words = f"logs of seeds {', '.join(map(str, left_out))} are here, and {JSON} leaves them out: every run counts"
        problems.append(Problem("seed_left_out", "error", words))
    return problems


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST  # false for NaN


def _is_seed(key: object) -> bool:
    text = str(key)
    return text.isascii() and text.isdecimal() and len(text) <= 20


def script_of(files: Collection[str]) -> str:
    """The one that trains: train_gpt.py, else the shortest name that begins so, else the only script."""
    if SCRIPT in files:
        return SCRIPT
    scripts = sorted((name for name in files if name.endswith(".py")), key=lambda name: (len(name), name))
    here = [name for name in scripts if "/" not in name] or scripts
    training = [name for name in here if name.rsplit("/", 1)[-1].startswith("train")]
    return training[0] if training else here[0] if len(here) == 1 else ""
