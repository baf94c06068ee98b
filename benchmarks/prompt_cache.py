"""How much of what a language model reads over a campaign would come from its provider's cache.

    python -m benchmarks.prompt_cache                # 250 questions, some minutes
    python -m benchmarks.prompt_cache --ideas 60

Runs a campaign with imagined results on a script as long as the tiny track's, and makes the prompt at each question,
findings and all. Questions come at the times at which the recorded campaign that ships with Caddie had its ideas, over
and over; also 20 times slower, as where a run takes ten minutes. The turns of a conversation, what tools answer and how
long each takes are drawn from a seed. Tokens are estimates.
"""

import argparse
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

from sqlalchemy import insert, select

from agent import campaign, skills
from agent.context import Context, gather, render
from agent.context.tokens import estimate
from agent.llm import Part
from agent.loop import Loop
from agent.options import Options
from agent.planner import Request
from agent.planner.idea import Idea
from agent.records import Draft
from agent.report.recording import Propose, load
from agent.runners.fake import FakeRunner
from agent.skills import Skill
from agent.store import Store
from agent.store.rows import now
from agent.store.schema import lessons, verdicts
from benchmarks.endless import Endless, judged_track, make_workspace
from benchmarks.folders import working_folder
from benchmarks.loop_overhead import world
from benchmarks.prompt_caches import Breakpoints, Cache, Call, Prefixes, share
from benchmarks.store import machine

TARGET = 0.70
SEED = 1
SLOWER = 20
TEXT = (
    "the embedding is starved in the first hundred steps because its rate falls with the warm-down, while the matrices "
    "still move; r12 and r40 show a loss that stays flat from step 180 on, and the skill says that half the batch buys "
    "twice the steps, so the gain should be visible at once unless the noise between seeds is larger than it was"
)


class Watched(Endless):
    """Makes the prompt that a model would be sent at each question, and findings on what was judged since."""

    def __init__(self, most: int) -> None:
        super().__init__(most=most, good=16)  # three heads in 48 ideas, as the recorded campaign had
        self.store: Store | None = None
        self.known: tuple[Skill, ...] = skills.load(Path(__file__).parent.parent / "skills")
        self.contexts: list[Context] = []

    def propose(self, request: Request) -> Draft | None:
        assert self.store is not None
        with self.store.write() as tx:
            told = select(lessons.c.proposal_id)
            judged = select(verdicts.c.proposal_id).where(verdicts.c.proposal_id.not_in(told)).distinct()
            for about in tx.connection.execute(judged.order_by(verdicts.c.proposal_id)).scalars().all():
                values = {"campaign_id": request.campaign.id, "proposal_id": about, "kind": "knob", "runs": [about]}
                text = words(f"finding {about}", 70)
                more = {"text": text, "confidence": 0.4, "created": now()}
                tx.connection.execute(insert(lessons).values(**values, **more))
        with self.store.read() as reads:
            evidence = gather(reads, request, planner=self.name, skills=self.known)
        self.contexts.append(render(evidence))
        draft = super().propose(request)
        return draft and replace(draft, hypothesis=words(f"idea {self.made}", 90))


def words(draw: str, count: int) -> str:
    """Prose of its own for each idea and finding."""
    return " ".join(random.Random(draw).choices(TEXT.split(), k=count))


def contexts(ideas: int, root: Path) -> list[Context]:
    make_workspace(root, judged_track(), long=True)
    options = Options(track="agent.toml", planner="mcp", budget_hours=1e6, review="none", slots=2, seed=7)
    setting = campaign.start(options, root, lambda text: None, lambda track, slots: FakeRunner(slots, 0.0, world))
    planner = Watched(ideas)
    planner.store = setting.store
    Loop(replace(setting, planners=(planner,))).run()
    setting.store.close()
    return planner.contexts


def recorded_gaps() -> list[float]:
    """Seconds between one idea and the next, of the campaign that ships with Caddie."""
    data = (resources.files("agent") / "report" / "demo.jsonl.gz").read_bytes()
    ideas = [step.at for step in load(data, "the recorded campaign").steps if isinstance(step, Propose)]
    return [b - a for a, b in itertools.pairwise(ideas[1:])]


def calls(asked: list[Context], gaps: list[float], script: str, known: tuple[Skill, ...]) -> Iterator[Call]:
    """All requests of the campaign: every turn sends again what was said before it."""
    tools = Part(json.dumps(Idea.model_json_schema()))
    at = 0.0
    for n, (context, gap) in enumerate(zip(asked, itertools.cycle(gaps), strict=False)):
        at += gap
        draw, when = random.Random(f"{SEED}/{n}"), at
        turns: list[Part] = []
        for turn in range(draw.randint(3, 7)):
            yield Call(when, turn == 0, (tools, *context.system, *context.user, *turns))
            when += draw.uniform(6.0, 25.0)
            turns += [Part(words(f"{n}/{turn}", draw.randint(40, 400))), Part(_answer(draw, script, known))]


def _answer(draw: random.Random, script: str, known: tuple[Skill, ...]) -> str:
    """Of a tool: a skill, lines of the script, or what a check says."""
    kind = draw.random()
    if kind < 0.3 and known:
        return draw.choice(known).body
    if kind < 0.6:
        lines = script.splitlines()
        start = draw.randrange(len(lines))
        return "\n".join(lines[start : start + 120])
    return words(f"{kind}", draw.randint(40, 300))


def caches() -> dict[str, Cache]:
    return {
        "breakpoints, from 1,024 tokens": Breakpoints(1024),
        "breakpoints, from 4,096 tokens": Breakpoints(4096),
        "prefixes, from 1,024 tokens": Prefixes(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ideas", type=int, default=250)
    chosen = parser.parse_args()
    with working_folder("prompts") as root:
        asked = contexts(chosen.ideas, root / "work")
        script = (root / "work" / "train.py").read_text("utf-8")
    known, gaps = skills.load(Path(__file__).parent.parent / "skills"), recorded_gaps()
    sizes = [sum(estimate(part.text) for part in (*one.system, *one.user)) for one in (asked[0], asked[-1])]
    print(f"{machine()}; {len(asked)} questions, prompts of {sizes[0]:,} to {sizes[1]:,} tokens (estimated)\n")
    print("| times | cache | all calls | calls within the expiry | first calls | first calls within the expiry |")
    print("|---|---|---|---|---|---|")
    worst = 1.0
    for name, factor in (("recorded", 1), (f"{SLOWER} times slower", SLOWER)):
        made = list(calls(asked, [gap * factor for gap in gaps], script, known))
        for kind, cache in caches().items():
            found = share(cache, made)
            worst = min(worst, found.within)
            print(f"| {name} | {kind} | {found.all_calls:.1%} | {found.within:.1%} | {found.first:.1%} "
                  f"| {found.first_within:.1%} |", flush=True)  # fmt: skip
    print(f"\n{TARGET:.0%} or more where calls come within the expiry: {'met' if worst >= TARGET else 'not met'}")


if __name__ == "__main__":
    main()
