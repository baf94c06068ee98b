"""What a person may write of a cluster, and what sbatch gets of it."""

import subprocess
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.errors import TrackError
from agent.fields import explained, frozen
from agent.runners.slurm.script import Need, Nodes, script, words
from agent.runners.slurm.settings import Login, Settings
from agent.track import parse
from tests.working import TRACK

FULL = Settings(
    folder="/shared/caddie",
    partition="gpu",
    account="lab",
    gres="gpu:h100",
    memory_mb=64_000,
    modules=("python/3.11", "cuda/12.8"),
    words=("--qos=long", "--exclusive"),
)


def test_a_job_of_eight_gpus() -> None:
    asked = words(FULL, Need(1200.0, 8), "caddie-k-r1-x", "/shared/log", ())
    assert asked == (
        "--job-name=caddie-k-r1-x",
        "--output=/shared/log",
        "--open-mode=append",
        "--requeue",
        "--signal=B:TERM@60",
        "--time=25",
        "--nodes=1",
        "--ntasks=1",
        "--export=NIL",
        "--chdir=/",
        "--partition=gpu",
        "--account=lab",
        "--gres=gpu:h100:8",
        "--cpus-per-task=64",
        "--mem=64000M",
        "--qos=long",
        "--exclusive",
    )
    assert "--array=0,2" in words(FULL, Need(1.0, 0), "n", "/l", (0, 2))


def test_nodes_that_are_meant_or_not_stand_beside_what_a_person_said_of_them() -> None:
    theirs = FULL.model_copy(update={"words": ("--exclude=bad1", "--nodelist=n[1-4]", "--exclusive")})
    need = Need(1.0, 0)
    assert words(theirs, need, "n", "/l", (), Nodes("n2"))[-3:] == ("--exclude=bad1", "--exclusive", "--nodelist=n2")
    found = words(theirs, need, "n", "/l", (), Nodes(but=("n3", "n4")))
    assert found[-3:] == ("--nodelist=n[1-4]", "--exclusive", "--exclude=bad1,n3,n4")
    assert words(FULL, need, "n", "/l", (), Nodes(but=("n3",)))[-1] == "--exclude=n3"


def test_a_track_may_name_modules_and_a_container_and_the_cluster_has_the_last_word() -> None:
    track = parse(TRACK.replace('kind = "cpu"', 'kind = "cpu"\nmodules = ["cuda/12.8"]\nimage = "/i.sif"'), "toy")
    plain, own = Settings(folder="/s"), Settings(folder="/s", modules=("cuda/12.9",), image="")
    assert (plain.completed(track).modules, plain.completed(track).image) == (("cuda/12.8",), "/i.sif")
    assert (own.completed(track).modules, own.completed(track).image) == (("cuda/12.9",), "")
    assert "module load cuda/12.8 || exit 1" in script(plain.completed(track), "/code", ("/a",)).splitlines()
    assert script(plain, "/code", ("/a",)).startswith("#!/bin/sh\nset --")
    with pytest.raises(TrackError, match=r"hardware\.modules"):
        parse(TRACK.replace('kind = "cpu"', 'kind = "cpu"\nmodules = ["; rm"]'), "toy")


def test_a_job_finds_its_folder_by_its_number() -> None:
    """Run by a shell, with a Python that prints what it is given."""
    settings = Settings(folder="/shared", python="/bin/echo")
    text = script(settings, "/code", ("/jobs/r1", "", "/jobs/it's r3"))
    said = [
        subprocess.run(["sh"], input=text, env=env, capture_output=True, text=True, check=True).stdout.split()[-2:]
        for env in ({}, {"SLURM_ARRAY_TASK_ID": "2"})
    ]
    assert said == [["/code", "/jobs/r1"], ["it's", "r3"]] or said[1] == ["/jobs/it's", "r3"]
    assert "module load python/3.11 || exit 1" in script(FULL, "/code", ("/a",)).splitlines()
    image = script(FULL.model_copy(update={"image": "/images/a b.sif", "modules": ()}), "/code", ("/a",))
    assert "exec apptainer exec --nv --bind=/shared/caddie --bind=/tmp '/images/a b.sif' /usr/bin/python3" in image


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"folder": "shared"}, "must be a path from the root"),
        ({"folder": "/a/../b"}, "must be a path from the root"),
        ({"partition": "a b"}, "no name that Slurm gives"),
        ({"gres": "--wrap=x"}, "no name that Slurm gives"),
        ({"modules": ["a; rm -rf /"]}, "no name that Slurm gives"),
        ({"words": ["--wrap=rm"]}, "not a word that may be added"),
        ({"words": ["--output=/etc/passwd"]}, "not a word that may be added"),
        ({"words": ["--qoss=x"]}, "Did you mean '--qos'?"),
        ({"words": ["--qos"]}, "write it with its value as one word"),
        ({"words": ["--exclude=a\nb"]}, "visible characters"),
        ({"margin_s": 10}, "120"),
        ({"partitoin": "gpu"}, "no such key. Did you mean 'partition'?"),
        ({"most": 0}, "greater than 0"),
    ],
)
def test_what_a_person_must_not_write(changed: dict[str, object], words: str) -> None:
    table = {"folder": "/shared", **{k: tuple(v) if isinstance(v, list) else v for k, v in changed.items()}}
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(table)
    assert words in explained(caught.value, lambda loc: Settings.model_fields)


def test_the_page_for_people_says_what_is_so() -> None:
    """Its example can be used, and its list has every key."""
    page = (Path(__file__).parents[1] / "docs" / "slurm.md").read_text()
    table = tomllib.loads(page.split("```toml\n")[1].split("```")[0])["lab"]
    assert table.pop("kind") == "slurm"
    assert Settings.model_validate(frozen(table)).most == 64
    listed = page.split("| `folder` |")[1].split("## What happens")[0]
    assert [key for key in Settings.model_fields if key not in ("folder", "login") and f"`{key}`" not in listed] == []
    assert [key for key in Login.model_fields if f"`{key}`" not in listed and f"`login.{key}`" not in listed] == []
