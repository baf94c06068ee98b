"""Campaigns with real processes whose scripts misbehave: each idea ends with a reason, and the rest goes on."""

from pathlib import Path

import pytest

from agent import budget
from agent.loop import Loop
from agent.runners.local import LocalRunner
from tests.e2e import world
from tests.e2e.misbehaving import DOCUMENTS, HERE, HONEST, JUDGED, LIMITS, TIGHT, ends, run
from tests.e2e.real import REAL_SCRIPT, REAL_TRACK
from trainer.data.manifest import Manifest, data_sha, write
from trainer.data.place import write_texts

ESCAPES = r"\x1b]0;owned\x07\x1b[2J"


def check(found: dict[str, tuple[str, str]], expected: dict[str, tuple[str, ...]]) -> None:
    for title, (state, *words) in expected.items():
        assert found[title][0] == state, (title, found[title])
        for word in words:
            assert word in found[title][1], (title, found[title])
        assert "\x1b" not in found[title][1] and len(found[title][1]) < 1000


# ---------------------------------------------------------------- tracks whose score is in the log

SCRIPT = REAL_SCRIPT.replace("sleep(0.1)", "sleep(0.02)").replace(
    "    noise =", f"    # twice\n{HERE}    # twice\n    noise ="
)
SCORE_LINE = "    print(f\"val_bpb: {2.0 - KNOBS['width'] / 20 + noise:.6f}\")\n"
NEVER_MORE_THAN = 60  # processes, whatever happens: no child ever comes back into the loop

TRICKS = {
    "never ends": "    while True:\n        time.sleep(1)\n",
    "prints 10 GB": "    for _ in range(10_000):\n        print('x' * 1_000_000)\n",
    "eats memory": "    eaten = [b'x' * 10_000_000 for _ in range(90)]\n    time.sleep(20)\n",
    "forks": f"""    for _ in range({NEVER_MORE_THAN}):
        if os.fork() == 0:
            try:
                os.setsid()
                time.sleep(20)
            finally:
                os._exit(0)
    time.sleep(20)
""",
    "is killed from outside": "    import signal\n    os.kill(os.getpid(), signal.SIGKILL)\n",
    "leaves a child behind": """    if os.fork() == 0:
        try:
            os.setsid()
            time.sleep(20)
        finally:
            os._exit(0)
""",
    "log is not UTF-8": "    import sys\n    sys.stdout.buffer.write(bytes(range(128, 256)) * 300 + b'\\n\\0\\n')\n",
    "fills its folder": "    for n in range(20):\n        open(f'{n}', 'wb').write(bytes(10**6))\n    time.sleep(20)\n",
}


def trick(title: str) -> dict[str, object]:
    return world.idea(title, (HERE, HERE + TRICKS[title]), script=SCRIPT)


@pytest.mark.long
def test_scripts_that_misbehave(tmp_path: Path) -> None:
    """One track whose score is what the script says, one core each, tight limits."""
    assert SCORE_LINE in SCRIPT
    root = world.make_workspace(tmp_path / "a", script=SCRIPT, track=REAL_TRACK.replace(LIMITS, TIGHT))
    ideas = [
        trick("never ends"),
        trick("prints 10 GB"),
        trick("eats memory"),
        trick("forks"),
        trick("is killed from outside"),
        world.idea("prints nothing", (SCORE_LINE, ""), script=SCRIPT),
        world.idea("prints NaN", (SCORE_LINE, SCORE_LINE.replace("noise:", "float('nan'):")), script=SCRIPT),
        trick("leaves a child behind"),
        trick("log is not UTF-8"),
        trick("fills its folder"),
        {
            "title": "matches twice",
            "edits": "train.py\n<<<<<<< SEARCH\n    # twice\n=======\n    # once\n>>>>>>> REPLACE\n",
        },
        world.idea("raises", (HERE, f"    raise ValueError('{ESCAPES}')\n"), script=SCRIPT),
        world.idea("wider", ('"width": 4', '"width": 8'), script=SCRIPT),
    ]
    setting = run(root, ideas)
    found = ends(setting)
    check(
        found,
        {
            "never ends": ("crashed", "wall limit", "4 s"),
            "prints 10 GB": ("crashed", "log limit", "1 MB"),
            "eats memory": ("crashed", "memory limit", "250 MB"),
            "forks": ("crashed", "processes limit", "12"),
            "is killed from outside": ("crashed", "SIGKILL"),
            "prints nothing": ("crashed", "no final score"),
            "prints NaN": ("crashed", "nan"),
            "fills its folder": ("crashed", "disk limit", "4 MB"),
            "matches twice": ("edit_failed", "2 times", "lines 18, 20"),
            "raises": ("crashed", "exit code 1", "train.log"),
            "wider": ("promoted", "gain"),
        },
    )
    # What is odd but tells its score is measured like any other.
    for title in ("leaves a child behind", "log is not UTF-8"):
        assert found[title][0] in ("worse", "inconclusive"), found[title]
    assert all((job / "train.log").stat().st_size < 20_000_000 for job in setting.jobs.glob("r*"))


# ---------------------------------------------------------------- tracks with an artifact and a judge

MODEL = "final_model.bin"
ARTIFACTS = {
    "no artifact": f"Path('{MODEL}').unlink()",
    "0 bytes": f"Path('{MODEL}').write_bytes(b'')",
    "10 GB, sparse": f"Path('{MODEL}').open('r+b').truncate(10_000_000_000)",
    "a link": f"Path('{MODEL}').rename('elsewhere'); Path('{MODEL}').symlink_to('elsewhere')",
    "a link to the person's": f"Path('{MODEL}').unlink(); Path('{MODEL}').symlink_to('/etc/passwd')",
    "a pipe": f"Path('{MODEL}').unlink(); os.mkfifo('{MODEL}')",
    "a folder": f"Path('{MODEL}').unlink(); os.mkdir('{MODEL}')",
    "two names": f"os.link('{MODEL}', 'second')",
    "no model": f"Path('{MODEL}').write_bytes(b'\\x80\\x04not what it should be')",
}


def judged(title: str, *changes: tuple[str, str]) -> dict[str, object]:
    return world.idea(title, *changes, script=HONEST)


def make_judged(root: Path) -> Path:
    world.make_workspace(root, script=HONEST, track=JUDGED)
    corpus = root / ".caddie/data/docs"
    corpus.mkdir(parents=True)
    train = write_texts(corpus, "train", DOCUMENTS[:50])
    val = write_texts(corpus, "val", DOCUMENTS[50:])
    write(Manifest("docs", {}, train, val, data_sha("docs", train, val, None)), corpus)
    return root


@pytest.mark.long
def test_artifacts_that_are_traps(tmp_path: Path) -> None:
    """The whole way: training, the shepherd's look at the artifact, the judge's own session, the verdict."""
    assert HONEST.count(HERE) == HONEST.count("KEEP = 0.1") == HONEST.count("< KEEP") == 1
    root = make_judged(tmp_path / "a")
    answer = "            nats.append(-self.model.logprobs(before)[token])\n"
    ideas = [judged(title, (HERE, f"{HERE}    {code}\n")) for title, code in ARTIFACTS.items()]
    ideas += [
        judged("claims less than it needs", (answer, answer.replace("[token])", "[token] / 2)"))),
        judged("answers NaN", (answer, "            nats.append(float('nan'))\n")),
        judged("reads more", ("KEEP = 0.1", "KEEP = 0.8")),
    ]
    # Twelve ideas in a row without a score stop a campaign, so the good one comes before the last traps.
    ideas.insert(5, ideas.pop())
    setting = run(root, ideas)
    check(
        ends(setting),
        {
            "no artifact": ("crashed", "no artifact final_model.bin was written"),
            "0 bytes": ("crashed", "is empty"),
            "10 GB, sparse": ("crashed", "train"),
            "a link": ("crashed", "link"),
            "a link to the person's": ("crashed", "link"),
            "a pipe": ("crashed", "not a plain file"),
            "a folder": ("crashed", "not a plain file"),
            "two names": ("crashed", "names"),
            "no model": ("crashed",),
            "claims less than it needs": ("invalid",),
            "answers NaN": ("crashed",),
            "reads more": ("promoted", "gain"),
        },
    )
    with setting.store.read() as reads:
        head = reads.head(setting.campaign.id)
        scored = reads.scored(setting.campaign.id, proposal_id=head.id)
    assert head.title == "reads more"
    assert {s.measurement.trust for s in scored} == {"measured"}


def test_a_base_that_tells_no_size_is_refused_where_bytes_are_limited(tmp_path: Path) -> None:
    silent = REAL_SCRIPT.replace('print("Total submission size int8+zlib: 900 bytes")', "pass")
    root = world.make_workspace(tmp_path / "work", silent, REAL_TRACK)
    world.write_ideas(root, [world.idea("wider", ('"width": 4', '"width": 8'), script=silent)])
    ending = Loop(world.open_campaign(root, make_runner=LocalRunner)).run()
    assert ending.failed
    assert "told no size, and the track allows 1,250 bytes" in ending.reason


NO_SCORE = "the base gives no score (r1): the log holds no final score"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((SCORE_LINE, "    print(noise)\n"), f"{NO_SCORE}; the script has to end with a line `val_bpb: "),
        ((SCORE_LINE, "    print('val_bpb: nan', noise)\n"), NO_SCORE),
        (
            (SCORE_LINE, "    __import__('os').kill(__import__('os').getppid(), 9)\n"),
            "the base itself does not run (r1 crashed)",  # behind its walls nothing can
        ),
    ],
    ids=["nothing", "nan", "would kill its shepherd"],
)
def test_a_base_that_tells_no_score_ends_the_campaign(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    script = SCRIPT.replace(*change)
    assert script != SCRIPT
    root = world.make_workspace(tmp_path / "work", script, REAL_TRACK)
    world.write_ideas(root, [world.idea("wider", ('"width": 4', '"width": 8'), script=script)])
    setting = world.open_campaign(root, make_runner=LocalRunner, budget_hours=0.5)
    ending = Loop(setting).run()
    assert ending.failed and words in ending.reason
    with setting.store.read() as reads:
        assert len(reads.runs(setting.campaign.id)) <= 4
        assert budget.open_entries(reads, setting.campaign.id) == []
