"""Campaigns whose head can be submitted: three fresh runs with their job folders."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from agent.job.folder import JobPaths
from agent.judge.task import Clocks, no_score
from agent.records import Finding, Proposal, Trust
from agent.report import package as packages
from agent.report.gates import Wanted
from agent.report.package import Package
from agent.store import Store, open_store
from agent.store.spoilt import spoilt
from agent.track import Track, parse, shipped
from tests.filling import add_base, add_campaign, add_idea, add_measured, promote

SCORES = (1.0712, 1.0718, 1.0709)
RECORD = (1.0810, 1.0812, 1.0808)  # further than 0.005 nats a token away, at 0.3 tokens a byte
LOG = "step:300/300 train_loss:2.1 train_time:9000ms\nholdout val_loss:2.5 val_bpb:1.09 (training documents)\n"
ME = Wanted("A. Person", "aperson", "More heads", "Heads were too few.", False, "contest", RECORD, None)


@dataclass
class Made:
    """A campaign whose head has three fresh runs with their job folders."""

    store: Store
    jobs: Path
    track: Track
    head: Proposal

    def package(self, wanted: Wanted = ME) -> Package:
        with self.store.read() as reads:
            campaign = reads.campaign_by_id(self.head.campaign_id)
            runs = packages.fresh_runs(reads, self.track, self.head)
            lineage, why = reads.lineage(self.head.id), spoilt(reads, self.head.id)
            return packages.package(self.track, campaign, lineage, runs, self.jobs, wanted, why)


Make = Callable[..., Made]


def making(folder: Path) -> Iterator[Make]:
    """For a fixture: campaigns below this folder, whose stores are closed at the end."""
    stores: list[Store] = []

    def made(
        *,
        track: str = "golf-8xh100",
        scores: tuple[float | None, ...] = SCORES,
        title: str = "more heads",
        code: bytes = b"print(1)\n",
        log: str = LOG,
        odd: dict[str, object] | None = None,
        findings: tuple[Finding, ...] = (),
        trust: Trust = "blind",
        total_bytes: int = 15_900_000,
        answers_s: float | None = None,
        wall_s: float = 3.0,
    ) -> Made:
        text = shipped()[track].read_text("utf-8")
        of = parse(text, track)
        root = folder / f"campaign{len(list(folder.iterdir()))}"
        root.mkdir()
        store, jobs = open_store(root / "runs.db"), root / "jobs"
        stores.append(store)
        sha = hashlib.sha256(code).hexdigest()
        with store.write() as tx:
            campaign = add_campaign(tx, toml=text)
            head = promote(tx, add_idea(tx, add_base(tx, campaign), title))
            for seed, bpb in enumerate(scores, 41):
                changes: dict[str, object] = {"script_sha": sha, "rung": of.decision.rung, "hardware_class": "h100"}
                if seed == 42:
                    changes |= odd or {}
                nats = None if bpb is None else bpb * 1000 * 0.6931471805599453
                run = add_measured(
                    tx,
                    head,
                    seed,
                    bpb,
                    purpose="report",
                    trust=trust,
                    total_bytes=total_bytes,
                    findings=findings if seed == 42 else (),
                    nats=nats,
                    score_wall_s=wall_s,
                    **changes,  # type: ignore[arg-type]
                )
                paths = JobPaths(jobs / f"r{run.id}")
                paths.code.mkdir(parents=True)
                (paths.code / Path(of.script.path).name).write_bytes(code)
                paths.train_log.write_text(log)
                if answers_s is not None:
                    clocks = Clocks(5.0, 5.0, answers_s, wall_s, wall_s, 9.0, 9.0, wall_s + 9.0)
                    paths.measure.write_text(replace(no_score("ok", ""), clocks=clocks).to_json())
        return Made(store, jobs, of, head)

    yield made
    for store in stores:
        store.close()


def refused(made: Package) -> list[str]:
    assert not made.files
    return [gate.name for gate in made.refused]
