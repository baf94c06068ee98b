"""An idea and a campaign of which no column matters."""

from agent.records import Campaign, Caps, Proposal

ANY = Proposal(
    1, 1, "drafted", "", 1, 1, None, "t", "", "x", "exploit", "knob", "", "", "", "", "", {}, 0.0, 0.5, None,
    None, "", (), (), "", "", "",
)  # fmt: skip
CAMPAIGN = Campaign(
    1, "night", "tiny", "tiny", "", "", "", "", "", 7, Caps(None), "knobs", "none", 2, None, "cpu", "running", "", "",
)  # fmt: skip
