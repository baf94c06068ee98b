"""Rules of clocks and bytes: 12 to 19.

Each takes a `Case`; gives an `Answer`.
"""

import lzma
from collections.abc import Iterator

from agent.judge.allowed import LEFT_OUT
from agent.judge.recount import Recount
from agent.judge.rules.ruling import Answer, Case, Rule, judged, passed, rule, unknown, violated

TRAINING = ("train_clock", LEFT_OUT)
CLOCK_SLACK_S = 1.0  # a script looks at its clock between two steps
MOST = 1 << 50  # bytes of any file
WRAPPER_BYTES = 300  # what unpacks a compressed script, at least
NO_CODE = (".log", ".txt", ".md", ".json", ".png", ".svg", ".jpg", ".pdf", ".csv", ".out")
MODELS = (".model", ".vocab")
ARTIFACTS = (
    ".ptz", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".safetensors", ".gguf", ".onnx", ".h5",
    ".zst", ".zstd", ".br", ".xz", ".lzma", ".gz", ".tgz", ".bz2", ".lz4", ".zip", ".7z", ".tar",
)  # fmt: skip
SMALL = 1_000_000  # bytes: a helper or a picture; more may be a model, whatever it is called


@rule(12, "calibration on training data, inside the training time", "invalid", "no compute moves between the phases")
def calibration(case: Case) -> Answer:
    """Of ours: what could read training data ended with training's processes, so the outer clock bounds it from above;
    where that is over, start and compiling may be what it was for. Of others the log, where it says so: on made-up
    text a calibration may be later, and no log tells whose text it was, so it is a flag."""
    limit, signs = case.limits.train_s, [one for one in case.signs if one.rule == 12]
    late, within = _calibrated(case, limit)
    took = case.measured.train_wall_s if case.blind and case.measured is not None else None
    if took is not None and (limit is None or took <= limit):
        allowed = "scoring sees none of it" if limit is None else f"{limit:,.0f} s are allowed"
        return judged(
            case, 12, proof=f"all that could read training data took {took:,.1f} s by our clock, {allowed}", lacking=""
        )
    if late:
        return violated("flag", late[0], [*late, *map(str, signs)])
    answer = judged(case, 12, TRAINING, lacking="nothing says when training data were read last")
    return passed(within[0], within) if answer.state == "unknown" and within else answer


def _calibrated(case: Case, limit: float | None) -> tuple[list[str], list[str]]:
    """Logs of calibrations that end after training's time, and of those that do not."""
    late, within = list[str](), list[str]()
    for name, said in case.runs():
        trained, took = said.train_ms, said.calibration_ms
        if limit is None or trained is None or took is None:
            continue
        end = (trained + took) / 1000
        words = f"{name}: training ended at {trained / 1000:,.1f} s and calibration at {end:,.1f} s"
        words += f", {limit:,.0f} s are allowed"
        (late if end > limit + CLOCK_SLACK_S else within).append(words)
    return late, within


@rule(13, "scoring within its time", "invalid", "ten minutes of scoring, everything that is computed for it included")
def scoring_clock(case: Case) -> Answer:
    limit = case.limits.score_s
    if limit is None:
        return unknown("this track has no limit")
    took = [(name, said.eval_ms / 1000) for name, said in case.runs() if said.eval_ms is not None]
    took = took or list(_claimed_seconds(case))
    if not case.blind or case.measured is None:
        return _clock(took, limit, "scoring")
    seconds = case.score_s if case.score_s is not None else case.measured.score_wall_s
    if seconds is None or (case.score_s is None and seconds > limit):  # tokenizer and the judge's own work are in it
        return judged(case, 13, ("score_clock",), lacking="what scoring took of all that the judge asked is not known")
    words = f"scoring took {seconds:,.1f} s by our clock, {limit:,.0f} s are allowed"
    if seconds > limit:
        return violated("flag", words)
    return judged(case, 13, ("score_clock",), proof=words, lacking="")


@rule(
    14,
    "training within its time",
    "invalid",
    "ten minutes of training by an outer clock; a script's own can be stopped",
)
def training_clock(case: Case) -> Answer:
    if "over_budget" in case.verdict:
        return violated("invalid", case.verdict)
    limit = case.limits.train_s
    if limit is None:
        return unknown("this track has no limit")
    took = [(name, said.train_ms / 1000) for name, said in case.runs() if said.train_ms is not None]
    if case.found(TRAINING):
        return judged(case, 14, TRAINING, lacking="")
    ours = case.measured.train_wall_s if case.blind and case.measured is not None else None
    if ours is None:
        return _clock(took, limit, "training")
    words = f"training took {ours:,.1f} s by our clock, start and writing of the artifact included, "
    words += f"{limit:,.0f} s are allowed"
    if ours <= limit:
        return passed(words)
    said = _clock(took, limit, "training")
    return said if said.state == "violated" else unknown(f"{words}; that the rest was no training only its log says")


def _claimed_seconds(case: Case) -> Iterator[tuple[str, float]]:
    """Of each seed, as submission.json says it."""
    results = (case.claims or {}).get("seed_results")
    for seed, values in list(results.items())[:64] if isinstance(results, dict) else ():
        seconds = values.get("eval_time_s") if isinstance(values, dict) else None
        if isinstance(seconds, int | float) and 0 <= seconds < 1e9:
            yield f"submission.json, seed {str(seed)[:20]}", float(seconds)


def _clock(took: list[tuple[str, float]], limit: float, what: str) -> Answer:
    if not took:
        return unknown(f"no log says how long {what} took")
    over = [f"{name}: {seconds:,.1f} s" for name, seconds in took if seconds > limit + CLOCK_SLACK_S]
    if over:
        return violated("invalid", f"{what} took longer than {limit:,.0f} s", over)
    longest = max(seconds for _, seconds in took)
    return passed(f"{what} took {longest:,.1f} s at most, {limit:,.0f} s are allowed; by {took[0][0]}")


@rule(15, "artifact and code within the limit", "invalid", "16,000,000 bytes, decimal, the code included")
def total_bytes(case: Case) -> Answer:
    limit = case.limits.artifact_bytes
    if limit is None:
        return unknown("this track has no limit")
    sizes = list(_totals(case))
    if not sizes:
        return unknown("neither artifact nor log says how large it is")
    over = [f"{name}: {size:,} bytes" for name, size in sizes if size > limit]
    if over:
        return violated("invalid", f"{max(size for _, size in sizes):,} bytes, {limit:,} are allowed", over)
    most = max(sizes, key=lambda one: one[1])
    return passed(f"{most[1]:,} bytes at most ({most[0]}), {limit:,} are allowed")


def _totals(case: Case) -> Iterator[tuple[str, int]]:
    if case.measured is not None and case.measured.total_bytes is not None:
        yield "measured", case.measured.total_bytes
        return
    if (claimed := _number(case, "bytes_total")) is not None:
        yield "submission.json", claimed
    shipped = case.files.get(case.script)
    models = _models(case)
    if models and shipped is not None:
        largest = sorted(models, key=lambda name: -models[name])
        named = ", ".join(largest[:3]) + (f" and {len(largest) - 3} more" if len(largest) > 3 else "")
        yield f"artifact and script, as they are shipped ({named})", sum(models.values()) + shipped
    for name, said in case.runs():
        if said.total_bytes is None:
            continue
        yield name, said.total_bytes
        if said.artifact_bytes is not None and said.code_bytes is not None and shipped is not None:
            yield f"{name}'s model with the code as shipped", said.artifact_bytes + shipped


def _models(case: Case) -> dict[str, int]:
    """Files that may be the model or a part of it, because scoring could read them: by their names, or because they are
    large. Small ones are what rule 17 lists, unless all together they are as large."""
    logs = {log.name for log in case.logs if log.said.bpb is not None or log.said.steps is not None}
    others = {name: size for name, size in case.files.items() if name != case.script and name not in logs}
    models = {name: size for name, size in others.items() if name.lower().endswith(ARTIFACTS) or size >= SMALL}
    small = {name: size for name, size in others.items() if name not in models and _is_helper(name)}
    return models | small if sum(small.values()) >= SMALL else models


def _is_helper(name: str) -> bool:
    return not name.lower().endswith((*NO_CODE, *ARTIFACTS)) and "requirements" not in name


@rule(16, "code bytes are those of what runs", "policy", "36 logs counted a compressed wrapper that was never shipped")
def code_bytes(case: Case) -> Answer:
    if case.blind and case.measured is not None:
        return passed(f"{case.measured.code_bytes or 0:,} bytes of code: the file that ran was counted")
    shipped = case.files.get(case.script)
    if shipped is None:
        return unknown("the script is not here")
    claimed = sorted({log.said.code_bytes for log in case.logs if log.said.code_bytes is not None} | _claimed(case))
    if not claimed:
        return unknown("nothing says how many bytes of code were counted")
    runs_file = [one for one in case.signs if one.name == "runs_a_file"]
    evidence = [f"{case.script}: {shipped:,} bytes as shipped", f"counted: {', '.join(f'{one:,}' for one in claimed)}"]
    evidence += [str(one) for one in runs_file]
    if case.layers:
        evidence.append(f"compressed without minifying: about {_compressed(case.layers[0].text):,} bytes")
    if min(claimed) < shipped or runs_file:
        return violated("policy", f"{min(claimed):,} bytes of code are counted, {shipped:,} are shipped", evidence)
    return passed(f"{shipped:,} bytes are shipped, {max(claimed):,} were counted", evidence)


def _claimed(case: Case) -> set[int]:
    value = _number(case, "bytes_code")
    return set() if value is None else {value}


def _number(case: Case, key: str) -> int | None:
    """A whole number that submission.json says."""
    value = (case.claims or {}).get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < MOST else None


def _compressed(text: str) -> int:
    return len(lzma.compress(text.encode("utf-8", "replace"), lzma.FORMAT_ALONE)) + WRAPPER_BYTES


@rule(
    17,
    "no uncounted helpers",
    "policy",
    "programs, libraries and tokenizer files that scoring reads count or are named",
)
def helpers(case: Case) -> Answer:
    if case.blind and case.behind("seatbelt"):
        return passed("scoring could read artifact, script and pinned packages, and nothing else")
    extra = {name: size for name, size in case.files.items() if name != case.script and _is_helper(name)}
    signs = [str(one) for one in case.signs if one.rule == 17]
    if case.blind and not signs:
        return unknown(f"no walls say what scoring could read beside its script and {len(extra)} more files")
    if not case.files and not signs:
        return unknown("the files are not here")
    if not extra and not signs:
        return passed("no file but the script can be read by it")
    evidence = [f"{name}: {size:,} bytes" for name, size in sorted(extra.items(), key=lambda one: -one[1])] + signs
    models = sum(size for name, size in extra.items() if name.endswith(MODELS))
    counted = f", {models:,} of them tokenizer" if models else ""
    return violated("policy", f"{sum(extra.values()):,} bytes in {len(extra)} more files{counted}", evidence)


@rule(18, "bytes are counted, not assumed", "invalid", "a space that is counted twice makes every score 17 % better")
def bytes_per_token(case: Case) -> Answer:
    if case.blind:
        return judged(
            case, 18, ("implied_bytes",), proof="the judge divides by the documents' own bytes", lacking="not counted"
        )
    counts, foreign = _counts(case)
    wrong = [f"{name}: {told.words}" for name, _, told in counts if told.fine is False]
    if wrong:
        return violated("invalid", "score and loss do not belong together as on the validation set", wrong)
    fine = [f"{name}: {told.words}" for name, _, told in counts if told.fine]
    if fine and len(fine) == len(counts) and not foreign:
        return passed("score and loss have the ratio of the validation set", fine)
    lacking = foreign or "no log says both score and loss, with a ratio that is known"
    return judged(case, 18, ("tokens_per_byte",), lacking=lacking)


@rule(19, "all of the validation set, in order", "invalid", "scores of a part are of another test")
def whole_set(case: Case) -> Answer:
    if case.blind and case.measured is not None:
        return passed(f"the judge asked for every one of {case.measured.tokens_scored or 0:,} tokens, in order")
    counts, foreign = _counts(case)
    part = [f"{name}: {told.words}" for name, tokens, told in counts if told.fine is False and tokens is not None]
    if part:
        return violated("invalid", "the number of tokens is not that of the validation set", part)
    whole = [f"{name}: {tokens:,} tokens" for name, tokens, told in counts if told.fine and tokens is not None]
    proof = f"{whole[0]}, the whole set" if whole and not foreign else ""
    return judged(case, 19, proof=proof, lacking=foreign or "no log says how many were scored")


def _counts(case: Case) -> tuple[list[tuple[str, int | None, Recount]], str]:
    """What the constant says of each run; and why it can't be told of the first one that nothing ties to the contest's
    validation set. Somebody's own text has other bytes, and that is no fault of theirs."""
    counts, foreign = list[tuple[str, int | None, Recount]](), ""
    for name, said in case.runs():
        if (told := said.recount()) is None:
            continue
        if told.fine or case.contest or (case.contest is None and said.of_contest(told)):
            counts.append((name, said.tokens, told))
        else:
            foreign = foreign or f"{name}: {told.words}; nothing says that it scores the contest's validation set"
    return counts, foreign


RULES: tuple[Rule, ...] = (
    calibration, scoring_clock, training_clock, total_bytes, code_bytes, helpers, bytes_per_token, whole_set,
)  # fmt: skip
