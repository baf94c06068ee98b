"""How long one run may take here, and so what is reserved for it.

The track's wall limits are generous, because machines differ. Once the campaign's base has run, its own times on this
machine say what a run needs, and every later run gets a small multiple of that: less is reserved, so more is tried.
"""

from agent.records import Amount
from agent.setting import Setting
from agent.store import Reads
from agent.track import Limits


def run_limits(setting: Setting, reads: Reads) -> Limits:
    """The track's limits, tightened by what the base needed. Never looser than the track's."""
    limits = setting.track.limits
    base, seeds = reads.base(setting.campaign.id), setting.track.decision.report_seeds
    scored = reads.scored(setting.campaign.id, proposal_id=base.id, documents=False)
    # Its first ones only: limits that grew later would pass what was reserved by the old ones.
    scored = [one for one in scored if one.measurement.bpb is not None][:seeds]
    if len(scored) < seeds:
        return limits
    train = max(s.measurement.train_wall_s or limits.train_wall_s for s in scored)
    # All that is not training: scoring, its audit, and what lies between.
    score = max(s.measurement.slot_s - (s.measurement.train_wall_s or 0.0) for s in scored)
    return limits.model_copy(
        update={
            "train_wall_s": min(limits.train_wall_s, limits.headroom * train),
            "score_wall_s": min(limits.score_wall_s, limits.headroom * score),
        }
    )


def worst_run(setting: Setting, limits: Limits) -> Amount:
    """What one run is reserved at: its limits, on every GPU it holds."""
    return Amount(gpu_s=limits.worst_s() * max(1, setting.track.hardware.gpus))
