"""Makes the `Measurement` of a finished job: what was measured, and beside it what the script reported.

Takes a track, a run, its job folder and the shepherd's result; gives a `Measurement`. Reads files that
hostile code may have written: bounded, links not followed.
"""

import math
from dataclasses import replace

from agent.errors import InfraError
from agent.job.folder import JobPaths, JobResult
from agent.job.reading import read_ends, read_small
from agent.judge import JUDGE_VERSION, allowed, logs
from agent.judge.doubts import of_log
from agent.judge.logs import Reported
from agent.judge.task import ACCUSATIONS, CORE_BUSY, CORE_FREE, NETWORK, STARVED, UNFINISHED, Measured, no_score
from agent.records import Audited, Finding, Measurement, Run, Trust
from agent.track import Track
from sandbox import level
from sandbox.names import FORGETTING, TRACELESS
from sandbox.policy import reaches

HEAD, TAIL = 1 << 18, 1 << 20  # bytes of a log: settings and the start of training, and its end
BPB_TOLERANCE = 5e-4  # relative: four printed digits, another batch shape
REPORTED = "reported_differs"
DIM = "audit_dim"
MARKS = "marks_possible"


def measure(track: Track, run: Run, job: JobPaths, result: JobResult, data_sha: str) -> Measurement:
    """What is known of a run. A score only if the run ended well.

    Raises:
        InfraError: the judge's session failed for a reason of its own; the idea is not to blame.
    """
    said = logs.reported(read_ends(job.train_log, HEAD, TAIL))
    found = session_answer(job, result) if track.script.score else from_log(said, result)
    mine = counted(found, result)
    if not track.script.score:
        bpb = said.bpb if found.status == "ok" else None
        mine = replace(mine, bpb=bpb, total_bytes=said.total_bytes if mine.total_bytes is None else mine.total_bytes)
    judged = result.phase("judge")
    peaks = [ended.peak_mb for ended in (result.phase("train"), judged) if ended is not None]
    mine = replace(
        mine,
        run_id=run.id,
        trust=trust_of(found) if track.script.score else "reported",
        judge_version=JUDGE_VERSION,
        # Of a session that was cut off only its own end is known.
        score_wall_s=found.clocks.scoring_wall if found.clocks else (judged.wall_s if judged else None),
        score_cpu_s=found.clocks.scoring_cpu if found.clocks else (judged.cpu_s if judged else None),
        slot_s=result.slot_s,
        peak_mb=max(peaks, default=None),
        steps=said.steps,
        train_ms=said.train_ms,
        reported_bpb=said.bpb,
        reported_bytes=said.total_bytes,
        data_sha=data_sha,
        doc_nats=found.doc_nats,
        judge_sha=found.judge_sha,
        hidden_nats=found.hidden_nats,
        audit=audited(found),
    )
    return replace(mine, findings=tuple(_findings(track, run, mine, found, said, result)))


def counted(found: Measured, result: JobResult) -> Measurement:
    """What the judge's session counted and the shepherd clocked: of nobody's run, and believed by nobody yet."""
    counts, train = found.contest or found, result.phase("train")
    return Measurement(
        run_id=0,
        trust="reported",
        judge_version=found.judge_version,
        bpb=score_of(found),
        nats=counts.nats,
        bytes_scored=counts.bytes,
        tokens_scored=counts.tokens,
        artifact_bytes=found.artifact_bytes,
        code_bytes=found.code_bytes,
        total_bytes=_total(found.artifact_bytes, found.code_bytes),
        train_wall_s=train.wall_s if train else None,
        train_cpu_s=train.cpu_s if train else None,
        score_wall_s=found.clocks.scoring_wall if found.clocks else None,
        score_cpu_s=None,
        slot_s=0.0,
        peak_mb=found.peak_mb,
        steps=None,
        reported_bpb=None,
        reported_bytes=None,
        artifact_sha=found.artifact_sha,
        data_sha="",
    )


def _total(artifact: int | None, code: int | None) -> int | None:
    return None if artifact is None or code is None else artifact + code


def _findings(
    track: Track, run: Run, mine: Measurement, found: Measured, said: Reported, result: JobResult
) -> list[Finding]:
    limits = track.limits
    findings = [*found.findings, *differences(said, mine), *contest_count(found), *normal_form(found)]
    if found.code_sha is not None and found.code_sha != run.script_sha:
        findings.append(
            Finding("code_changed", "invalid", "the script that was scored is not the one that was started")
        )
    findings += [*talk(result), *had_core(track, result), *(of_log(track, said) if mine.trust == "reported" else ())]
    train_s = mine.train_wall_s if track.script.score else None  # a script that scores itself does so in it
    findings += allowed.clocks(limits.train_clock_s, limits.score_clock_s, train_s, said, found)
    findings += [*code_size(found), *((*dim(found), *marks(found)) if found.status == "ok" else ())]
    if found.status != "ok":
        findings.append(Finding("no_score", "note", found.reason))
    return findings


def session_answer(job: JobPaths, result: JobResult) -> Measured:
    """What the judge session wrote; in words why there is nothing, if there is nothing."""
    if result.phase("judge") is None:
        return no_score("failed", result.reason or f"the run ended as {result.outcome}")
    ended_well = result.outcome == "ok"
    try:
        found = Measured.from_json(read_small(job.measure) or "")
    except ValueError as error:
        if ended_well:
            raise InfraError(f"{job.measure} can't be read: {error}") from error
        return no_score("failed", result.reason or "the judge session left no answer")
    # A candidate may have written the file; what the judge wrote agrees with how its phase ended.
    if not ended_well and found.status in ("ok", "broken"):
        return no_score("failed", result.reason)
    if found.status == "broken":
        raise InfraError(f"the judge session failed: {found.reason}")
    bpb = score_of(found)
    if bpb is not None and not 0 <= bpb < logs.MOST_BPB:
        return no_score("failed", f"{bpb:.3g} bits per byte are no score")
    return found


def score_of(found: Measured) -> float | None:
    """Bits per byte by the contest's count, where there is one, else by the documents' own bytes. Our own sums, nothing
    that the candidate counted."""
    counts = found.contest or found
    if found.status != "ok" or counts.nats is None or not counts.bytes:
        return None
    return counts.nats / math.log(2) / counts.bytes


def trust_of(found: Measured) -> Trust:
    """A score is blind once a full audit, one that would have seen what is wanted, found nothing against it. At level
    `pod` the files of the machine are open to all processes of the session, which could tell each other the text and
    then agree about it; where there are no walls, so is the text itself."""
    full = found.audit is not None and found.audit.strength == "full" and not {"pod", "unsafe"} & set(found.walls)
    full = full and not dim(found)
    # An accusation that a second process did not repeat proves nothing; but it was no audit without one either.
    against = any(one.severity == "invalid" or one.rule in (UNFINISHED, *ACCUSATIONS) for one in found.findings)
    return "blind" if full and not against else "measured"


def dim(found: Measured) -> list[Finding]:
    """That a full audit would have missed a leak that matters: by how much it was that its noise and its questions let
    it see."""
    said = found.audit
    if said is None or said.strength != "full" or max(said.even, said.rare) <= said.wanted:
        return []
    text = (
        f"the audit would have seen a leak of {said.even:.2g} nats at every token and one of {said.rare:.2g} at few; "
        f"{said.wanted:.2g} is wanted, so the score is measured and not blind"
    )
    return [Finding(DIM, "note", text)]


def marks(found: Measured) -> list[Finding]:
    """That one process of the session could have told a later one something of the text, where the walls hold all else.
    No audit sees that, since both would know it."""
    stood = level(found.walls)
    if not reaches(stood, "seatbelt") or TRACELESS in found.walls:
        return []
    ways, helps = "which pages of shared files are in memory", FORGETTING
    if stood != "namespaces":
        ways, helps = f"times of access of shared files and {ways}", f"bubblewrap and {FORGETTING}"
    text = f"the processes that scored could have left each other something of the text in {ways}: {helps} would help"
    return [Finding(MARKS, "note", text)]


def audited(found: Measured) -> Audited | None:
    """What the session's audit says, fit to be stored. None: there was none, or one of an older judge."""
    said, clocks = found.audit, found.clocks
    if said is None or clocks is None or not said.uniform or not found.bytes or not found.tokens:
        return None
    per_bpb = found.tokens / math.log(2) / found.bytes
    return Audited(
        strength=said.strength,
        positions=said.peeks,
        uniform=said.uniform,
        surprising=said.surprising,
        twice=said.twice,
        replayed=said.replayed,
        largest_difference=said.largest_difference,
        largest_sum=said.largest_sum,
        tolerance=said.tolerance,
        tolerance_why=said.tolerance_why,
        unfair_nats=said.unfair,
        unfair_stderr=said.unfair_stderr,
        unfair_bpb=per_bpb * said.unfair,
        unfair_bpb_stderr=per_bpb * said.unfair_stderr,
        reference=said.reference,
        even_nats=said.even,
        rare_nats=said.rare,
        wanted_nats=said.wanted,
        wall_s=clocks.audit_wall,
        start_s=said.start_s,
    )


def kept_reference(job: JobPaths) -> str | None:
    """sha256 of the scores that the session kept for later audits."""
    try:
        found = Measured.from_json(read_small(job.measure) or "")
    except ValueError:
        return None
    return found.audit.reference_sha if found.audit is not None else None


def contest_count(found: Measured) -> list[Finding]:
    """Beside the contest's count, which decides, the plain one: all nats over the raw bytes of the documents."""
    counts = found.contest
    if counts is None or found.status != "ok" or found.nats is None or not found.bytes:
        return []
    tokens = "the published ones" if counts.published else "the candidate's own, so that no rest is dropped"
    text = (
        f"scored by the contest's count: {counts.bytes:,} bytes, {counts.tokens:,} tokens ({tokens}), of which "
        f"{counts.separators:,} are separators; {found.nats / math.log(2) / found.bytes:.5f} BPB for all "
        f"{found.tokens:,} tokens over the {found.bytes:,} raw bytes of the documents"
    )
    return [Finding("contest_count", "note", text)]


def code_size(found: Measured) -> list[Finding]:
    """Both forms of the script. The one that ran counts."""
    if found.source_bytes is None or found.packed_bytes is None:
        return []
    ran = "packed" if found.code_bytes == found.packed_bytes else "as it is"
    text = f"the script is {found.source_bytes:,} bytes, packed {found.packed_bytes:,}; it ran, and counts, {ran}"
    return [Finding("code_size", "note", text)]


def normal_form(found: Measured) -> list[Finding]:
    """What a tokenizer gave back in place of the text. A compatibility form says less than the text: a person should
    look."""
    form = found.manifest.normal_form if found.manifest else "none"
    if form == "none":
        return []
    text = f"documents come back in normal form {form!r}; the bytes that are counted are those of the raw text"
    return [Finding("normal_form", "note" if form == "nfc" else "flag", text)]


def from_log(said: Reported, result: JobResult) -> Measured:
    """For tracks without a scoring command: the script's own words, if it ended well."""
    if result.outcome != "ok":
        return no_score("failed", result.reason or f"the run ended as {result.outcome}")
    if said.bpb is None:
        return no_score("failed", said.reason)
    return no_score("ok", "")


def talk(result: JobResult) -> list[Finding]:
    """What the run's processes sent elsewhere than on loopback, where that was counted."""
    found = []
    for phase in result.phases:
        network = phase.exit.network
        if network is None:
            continue
        machine = f"the machine's {network.machine_after - network.machine_before:,} bytes meanwhile"
        if network.own:
            words = f"{phase.name}: it talked to the network: {network.own:,} of {machine}"
            found.append(Finding(NETWORK, "invalid", words))
        elif network.unclaimed and "pod" in result.walls:
            words = f"{phase.name}: nobody knows whose connections sent {network.unclaimed:,} of {machine}"
            found.append(Finding(NETWORK, "flag", words))
        elif "pod" in result.walls:
            found.append(Finding(NETWORK, "note", f"{phase.name}: none of {machine} were the run's"))
    return found


def had_core(track: Track, result: JobResult) -> list[Finding]:
    """Of a run that met its clock, where the kernel counts: whether its core was busy with others' work, or whether it
    waited for something itself. Busy is a core that kept it waiting for so much of what it could run, and of its clock:
    one that sleeps all the time would have met that on any core."""
    ready = [phase.exit.ready_s for phase in result.phases]
    known = [seconds for seconds in ready if seconds is not None]
    if track.hardware.kind != "cpu" or result.outcome != "capped" or not known or len(known) < len(ready):
        return []
    ran, wanted = math.fsum(phase.exit.cpu_s for phase in result.phases), math.fsum(known)
    wall = math.fsum(phase.exit.wall_s for phase in result.phases)
    words = f"it was ready to run for {wanted:.1f} of {wall:.1f} s, and ran for {ran:.1f} s"
    busy = wanted - ran > (1.0 - STARVED) * max(wanted, wall)
    return [Finding(CORE_BUSY if busy else CORE_FREE, "note", words)]


def differences(said: Reported, mine: Measurement) -> list[Finding]:
    """Where the script's words and our figures part. Not proof of anything: a person should look."""
    if mine.trust == "reported":
        return []
    found, bpb, total = list[Finding](), mine.bpb, mine.total_bytes
    if said.bpb is not None and bpb is not None and abs(said.bpb - bpb) > BPB_TOLERANCE * bpb:
        found.append(Finding(REPORTED, "flag", f"the log says {said.bpb:.5f} BPB, measured {bpb:.5f}"))
    if said.total_bytes is not None and total is not None and said.total_bytes != total:
        found.append(Finding(REPORTED, "flag", f"the log says {said.total_bytes:,} bytes, measured {total:,}"))
    return found
