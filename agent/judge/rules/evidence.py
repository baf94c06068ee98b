"""Rules of what a claim rests on: seeds, network, significance, the code that ran, pickles. 21 to 25.

Each takes a `Case`; gives an `Answer`.
"""

import re
from itertools import combinations
from statistics import fmean, stdev

from agent.judge.logs import Reported
from agent.judge.rules.ruling import Answer, Case, Rule, judged, passed, rule, unknown, violated

LEAST_SEEDS = 3
MOST_RUNS = 64
EXACT = 6  # digits of a score that two seeds do not share by chance: they differ by some 0.0006
_SEED_IN_NAME = re.compile(r"seed[_-]?(\d{1,12})")


@rule(21, "seeds are fixed before the run, and every run counts", "invalid", "of enough seeds the best is good by luck")
def seeds(case: Case) -> Answer:
    if "seed_ignored" in case.verdict:
        return violated("invalid", case.verdict)
    several = [f"{log.name}: {log.said.notes[-1]}" for log in case.logs if log.said.runs]
    other = [words for log in case.logs if (words := _other_seed(log.name, log.said.seed))]
    said = [log.said.seed for log in case.logs if log.said.seed is not None and log.said.bpb is not None]
    twice = sorted({seed for seed in said if said.count(seed) > 1})
    answer = judged(case, 21, ("several_runs",), lacking="only who started the runs knows how many there were")
    if answer.state == "violated" and answer.severity == "invalid":
        return answer
    evidence = [*answer.evidence, *several, *other]
    if twice:
        evidence.append(f"several logs with seed {', '.join(map(str, twice))}")
    if evidence:
        return violated("flag", evidence[0], evidence)
    if case.kind == "run":
        return passed("its seed was fixed when it was queued, and the store keeps every run")
    return answer


def _other_seed(name: str, seed: int | None) -> str:
    found = _SEED_IN_NAME.search(name)
    if found is None or seed is None or int(found[1]) == seed:
        return ""
    return f"{name} is named after seed {found[1]}, and says that it ran with seed {seed}"


@rule(22, "no network, and no training data while scoring", "invalid", "what is fetched is not in the artifact")
def network(case: Case) -> Answer:
    walled = case.blind and case.behind("pod")
    proof = "its processes had no network, and what they sent was counted where they had one" if walled else ""
    lacking = "its text fetches nothing; " if case.read else ""
    read = [str(one) for one in case.signs if one.name == "reads_packages"]
    if read and proof and not case.found(("network",)):
        return violated("flag", read[0], read)
    return judged(case, 22, ("network",), proof=proof, lacking=f"{lacking}what it did when it ran is not known")


@rule(23, "one configuration, enough seeds", "flag", "a row of the board needs three seeds of one script")
def significance(case: Case) -> Answer:
    copied, alike = _copies(case)
    if copied or alike:
        return violated("invalid" if copied else "flag", [*copied, *alike][0], [*copied, *alike])
    if case.kind != "submission":
        return unknown("asked of submissions: `agent claim` tests a claim")
    scores, again = _scores(case)
    if len(scores) < LEAST_SEEDS:
        more = f" ({again} more tell of one of these)" if again else ""
        return violated("flag", f"{len(scores)} logs have a score{more}, {LEAST_SEEDS} seeds are needed for a record")
    words = f"{len(scores)} scores, mean {fmean(scores):.8f}, standard deviation {stdev(scores):.8f} (n - 1)"
    sizes = {log.said.code_bytes for log in case.logs if log.said.code_bytes is not None and log.said.bpb is not None}
    if len(sizes) > 1:
        return violated(
            "flag", f"its logs count {len(sizes)} different sizes of code: not one script", map(str, sorted(sizes))
        )
    return passed(f"{words}; whether it beats the row before, `agent claim` says")


def _copies(case: Case) -> tuple[list[str], list[str]]:
    """Runs of different seeds that agree in score and training time to the last digit; and those that agree in one of
    the two alone, or in all that they say of their steps: there a seed may have changed nothing, or only the end."""
    copied, alike = list[str](), list[str]()
    scored = [(name, said, _seed(name, said)) for name, said in case.runs() if said.bpb is not None]
    for (name, one, seed), (other_name, other, other_seed) in combinations(scored[:MOST_RUNS], 2):
        if seed is None or other_seed is None or seed == other_seed:
            continue
        same = (one.bpb, one.loss) == (other.bpb, other.loss)
        exact = same and min(one.digits, other.digits) >= EXACT
        timed = one.train_ms is not None and one.train_ms == other.train_ms
        words = f"{name} and {other_name} name seeds {seed} and {other_seed} and agree in every digit of"
        if exact and timed:
            copied.append(f"{words} score and training time ({one.bpb:.8f}, {one.train_ms:,} ms): one run, copied")
        elif exact or (same and timed):
            alike.append(f"{words} {'score' if exact else 'a short score and of training time'} ({one.bpb:g})")
        elif one.curve and one.curve == other.curve:
            alike.append(f"{words} all that they say of their steps: one training")
    return copied, alike


def _scores(case: Case) -> tuple[list[float], int]:
    """One for each run, and how many logs tell of a run that another log tells of."""
    seen = list[tuple[int | None, Reported]]()
    told = 0
    for log in case.logs:
        if log.said.bpb is None:
            continue
        told += 1
        seed, said = _seed(log.name, log.said), log.said
        if not any(
            (said.bpb, said.train_ms) == (other.bpb, other.train_ms) and (None in (seed, before) or seed == before)
            for before, other in seen
        ):
            seen.append((seed, said))
    return [said.bpb for _, said in seen if said.bpb is not None], told - len(seen)


def _seed(name: str, said: Reported) -> int | None:
    """That it says, or that its file is named after."""
    found = _SEED_IN_NAME.search(name)
    return said.seed if said.seed is not None else int(found[1]) if found else None


@rule(24, "the code is the code that ran", "invalid", "of 79 logs that print their source, 23 print another one")
def same_code(case: Case) -> Answer:
    differs = [f"{log.name}: {log.source_differs}" for log in case.logs if log.source_differs]
    answer = judged(
        case,
        24,
        ("code_changed", "reported_differs"),
        proof="the script was hashed when it was started and when it was scored" if case.blind else "",
        lacking="no log prints its source" if case.logs else "there is no log to compare with",
    )
    if answer.state == "violated" and answer.severity == "invalid":
        return answer
    if differs:
        return violated(
            "flag", "a log prints another source than the script that is shipped", (*answer.evidence, *differs)
        )
    if answer.state == "unknown" and any(log.prints_source for log in case.logs) and case.script:
        return passed("the source that the logs print is the script that is shipped")
    return answer


@rule(25, "no pickled artifacts", "flag", "reading a pickle executes what is in it")
def no_pickles(case: Case) -> Answer:
    proof = "the judge never loads an artifact: the candidate's own processes do, behind walls" if case.blind else ""
    lacking = "the script is not here, or not all of it can be read"
    lacking = "its text reads no pickle" if case.read else lacking
    answer = judged(case, 25, proof=proof, lacking=lacking)
    return passed(answer.words) if answer.state == "unknown" and case.read else answer


RULES: tuple[Rule, ...] = (seeds, network, significance, same_code, no_pickles)
