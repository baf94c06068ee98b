"""What a person sees in a terminal at one moment of the recorded campaign, as text: the README shows it.

python -m agent.report.screen              # prints it; a test holds the README up to date
"""

from agent.report.demo import shipped
from agent.report.live import snapshot
from agent.report.replay import stage
from agent.store.lease import hold

MOMENT_S = 520.0  # of the campaign: two accepted, an idea being confirmed and another one screened


def screen() -> str:
    recording = shipped()
    with stage(recording) as playing, hold(playing.store, f"campaign {recording.campaign.name}"):
        playing.until(MOMENT_S)
        return snapshot(playing.store, playing.campaign_id, playing.jobs)


if __name__ == "__main__":
    print(screen())
