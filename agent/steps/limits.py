"""How long one run may take here, and so what is reserved for it.

The track's wall limits are generous, because machines differ. Once the campaign's base has run, its own times on this
machine say what a run needs, and every later run gets a small multiple of that: less is reserved, so more is tried.
"""

from dataclasses import replace

from agent.records import Amount, Balance
from agent.setting import Setting
from agent.store import Reads
from agent.tables import GRACE_S, Limits

LEAST_AUDIT_S = 1.0


def run_limits(setting: Setting, reads: Reads, rung: str, hardware_class: str = "") -> Limits:
    """The track's limits, tightened by what the base needed on such a machine, and at a cheaper rung by what that takes
    of it.

    Never looser than the track's, nor than those of the deciding rung.
    """
    limits = _deciding_limits(setting, reads, hardware_class)
    share = setting.track.share(setting.track.rung_named(rung))
    cpu_s = limits.train_cpu_s
    return limits.model_copy(
        update={
            "train_wall_s": share * limits.train_wall_s,
            "train_cpu_s": None if cpu_s is None else share * cpu_s,
        }
    )


def _deciding_limits(setting: Setting, reads: Reads, hardware_class: str) -> Limits:
    limits = setting.track.limits
    seeds = setting.track.decision.report_seeds
    # Its first ones only: limits that grew later would pass what was reserved by the old ones.
    times = reads.base_times(setting.campaign.id, seeds, hardware_class)
    if len(times) < seeds:
        return limits
    train = max(one.train_wall_s or limits.train_wall_s for one in times)
    # All that is not training: scoring, its audit, and what lies between.
    rest = max(one.slot_s - (one.train_wall_s or 0.0) for one in times)
    tighter = {"train_wall_s": min(limits.train_wall_s, limits.headroom * train)}
    if limits.audit_wall_s is None:
        tighter["score_wall_s"] = min(limits.score_wall_s, limits.headroom * rest)
    else:
        score = max(one.score_wall_s or limits.score_wall_s for one in times)
        tighter["score_wall_s"] = min(limits.score_wall_s, limits.headroom * score)
        audit = limits.headroom * max(rest - score, LEAST_AUDIT_S)
        # An idea that adapts while it is scored is scored once more in its audit.
        tighter["audit_wall_s"] = min(limits.audit_wall_s, audit + tighter["score_wall_s"])
    return limits.model_copy(update=tighter)


def worst_run(setting: Setting, reads: Reads, rung: str = "", hardware_class: str = "") -> Amount:
    """What one run at this rung is reserved at: its limits, on every GPU it holds. Empty: at the deciding one."""
    rung = rung or setting.track.decision.rung
    limits = run_limits(setting, reads, rung, hardware_class)
    return Amount(gpu_s=limits.worst_s() * max(1, setting.track.gpus(rung)))


def worst_scoring(setting: Setting, reads: Reads, rung: str, hardware_class: str) -> Amount:
    """The same of a run that trains nothing."""
    limits = run_limits(setting, reads, rung, hardware_class)
    return Amount(gpu_s=(limits.judge_wall_s() + GRACE_S) * max(1, setting.track.gpus(rung)))


def least_idea(setting: Setting, reads: Reads) -> Amount:
    """What a new idea takes if it is accepted as soon as any can be: a screening run like the base's, and at worst one
    more seed and the fresh runs of the new head.

    With less left no idea could be accepted any more, so none is begun.
    """
    worst = worst_run(setting, reads)
    further = _yes(setting, worst)
    return replace(further, gpu_s=further.gpu_s + worst.gpu_s / setting.track.limits.headroom)


def least_yes(setting: Setting, reads: Reads) -> Amount:
    """One more seed of an idea, and the fresh runs of the head that it may be then, at worst."""
    return _yes(setting, worst_run(setting, reads))


def _yes(setting: Setting, worst: Amount) -> Amount:
    return worst.times(1 + setting.track.decision.report_seeds)


def affordable(balance: Balance, gpu_s: float) -> bool:
    cap = balance.caps.gpu_s
    return cap is None or balance.settled.gpu_s + balance.reserved.gpu_s + gpu_s <= cap
