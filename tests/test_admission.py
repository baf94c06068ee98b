"""Which machines are taken, by what they show: read from recordings, decided from records, remembered in the store."""

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from agent import track as tracks
from agent.admission import gate, judgement, smi
from agent.admission.judgement import admit
from agent.admission.seen import MOST_BYTES, NO_TIME, Disk, Gpu, Link, Record, read, to_json
from agent.store import Store, admissions, open_store
from tests.admitting import APPS, BRIDGED, ENVIRONMENT, H100, KNOWN, LITTLE, NVLINKED, VAL, gpu, machine, want
from tests.filling import add_campaign

# ---------------------------------------------------------------- what nvidia-smi prints


def test_gpus_are_read_from_the_documented_query() -> None:
    one, two = smi.gpus(H100, APPS)
    assert one == gpu(uuid="GPU-0c8b1e6e-1111", used_mb=4.0, celsius=33.0)
    assert (two.sm_mhz, two.power_limit_w, two.ecc_errors, two.others) == (1200.0, 500.0, 2.0, 2)
    assert two.slowed_by == ("hardware slowdown", "heat (software)", "heat (hardware)")
    assert smi.gpus(H100, APPS, own=4711)[1].others == 1
    (little,) = smi.gpus(LITTLE, "")
    assert (little.sm_mhz, little.power_limit_w, little.ecc_errors, little.ecc) == (None, None, None, "[N/A]")
    assert little.slowed_by == ()  # it has nothing to do


@pytest.mark.parametrize("said", ["", "No devices were found\n", "0, GPU-0", H100.replace("0, GPU", "x, GPU", 1)])
def test_what_is_no_answer_is_not_read_as_one(said: str) -> None:
    with pytest.raises(ValueError, match="nvidia-smi"):
        smi.gpus(said, "")


def test_a_reason_that_nobody_knows_is_told_by_its_bits() -> None:
    assert smi.reasons("0x0000000000001004") == ("power cap", "bits 0x1000")
    assert smi.reasons("[N/A]") == () == smi.reasons("0x1")


def test_links_are_read_from_the_matrix_without_network_cards() -> None:
    assert smi.links(NVLINKED) == tuple(Link(a, b, "NV18", None) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert smi.links(BRIDGED) == (Link(0, 1, "PHB", None),)
    assert smi.links("\tGPU0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\nGPU0\t X \t0-15\t0\t\tN/A\n") == ()
    for wrong in (
        "",
        "Failed to query topology",
        NVLINKED.replace("GPU1\tNV18", "GPU1\tOK!"),
        "\tGPU0\tGPU1\nGPU0\tX\n",
    ):
        with pytest.raises(ValueError, match="nvidia-smi draws"):
            smi.links(wrong)


@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(said: str) -> None:
    for reader in (lambda: smi.gpus(said, said), lambda: smi.links(said), lambda: read(said)):
        with contextlib.suppress(ValueError):
            reader()  # type: ignore[no-untyped-call]


def tool(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of that name, which says what a recording has."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_tool_is_asked_by_the_names_that_its_driver_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpus").write_text(H100)
    script = f"""case "$*" in
*--query-compute-apps=gpu_uuid,pid*) ;;
*clocks_event_reasons*) echo 'Field "clocks_event_reasons.active" is not a valid field to query.'; exit 2;;
*--query-gpu=index,uuid,*clocks_throttle_reasons.active*csv,noheader,nounits*) cat {tmp_path}/gpus;;
*) echo "$*" >&2; exit 1;; esac"""
    tool(tmp_path, script, monkeypatch)
    assert [found.index for found in smi.look()] == [0, 1]
    with pytest.raises(OSError, match="nvidia-smi: topo -m"):
        smi.ask(*smi.TOPOLOGY)


def test_a_tool_that_hangs_or_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smi, "ANSWER_S", 0.2)
    tool(tmp_path, "exec sleep 60", monkeypatch)
    with pytest.raises(OSError, match=r"not answered within 0\.2 s"):
        smi.look()
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError):
        smi.look()


# ---------------------------------------------------------------- records


def test_a_record_survives_its_journey() -> None:
    assert read(to_json(machine(8))) == machine(8)


def test_what_a_machine_writes_is_bounded_and_possible() -> None:
    good = to_json(machine())
    assert machine().step is not None
    for wrong, words in (
        ("x" * (MOST_BYTES + 1), "are the most"),
        (good.replace('"version": 1', '"version": 2'), "of version 2"),
        (good.replace("Xeon", "X" * 401), "401 characters"),
        (good.replace("81559.0", "-1.0"), "below nothing"),
        (good.replace("81559.0", "1e999"), "finite"),
        (good.replace("81559.0", "NaN"), "no number of ours"),
        (good.replace('"index"', '"indes"'), "missing or unknown"),
        (to_json(machine(ms=0.0)), "took no time"),
        (good.replace('"namespaces", "names"', '"mighty", "names"'), "none of"),
        ("[" * 100_000, "recursion"),
        ("Traceback (most recent call last):", "Expecting value"),
    ):
        with pytest.raises(ValueError, match=words):
            read(wrong)


# ---------------------------------------------------------------- the judgement


def test_a_good_machine_is_taken_whatever_is_known_of_its_class() -> None:
    for gpus in (0, 1, 8):
        for known in (KNOWN, judgement.Class()):
            found = admit(machine(gpus), want(gpus), known)
            assert (found.ok, found.reasons) == (True, ())
    assert admit(machine(8), want(8)).hardware_class == "cuda/NVIDIA H100 80GB HBM3/8"
    assert admit(machine(0), want(0)).hardware_class == "cpu/Xeon/1-thread"


def changed(**changes: object) -> Record:
    return machine(2, **changes)


def gpus_with(**changes: object) -> tuple[Gpu, ...]:
    return gpu(0), gpu(1, **changes)


STEP, DATA, DISK, WALLS = machine(2).step, machine(2).data, machine(2).disk, machine(2).walls
assert STEP is not None and DATA is not None and DISK is not None and WALLS is not None
FAULTS = {
    "too few": (changed(gpus=(gpu(0),)), "2 x H100 were asked for, and it has 1"),
    "another": (changed(gpus=(gpu(0, name="NVIDIA A100"), gpu(1, name="NVIDIA A100"))), "it has 0 ('NVIDIA A100')"),
    "mixed": (changed(gpus=gpus_with(name="NVIDIA H100 PCIe")), "not of one kind"),
    "shared": (changed(gpus=gpus_with(others=1, used_mb=30_211.0)), "not ours alone: 1 other processes, 30211 MB"),
    "held": (changed(gpus=gpus_with(used_mb=5000.0)), "not ours alone: 0 other processes"),
    "broken": (changed(gpus=gpus_with(ecc_errors=2.0)), "2 memory errors"),
    "starved": (changed(gpus=gpus_with(power_limit_w=500.0)), "may draw 500 W of the 700 W"),
    "hot": (changed(step=replace(STEP, loaded=gpus_with(slowed_by=("heat (hardware)",)))), "slowed while it works"),
    "silent": (changed(gpus=None, unfinished={"gpus": "nvidia-smi hangs"}), "did not say its GPUs: nvidia-smi hangs"),
    "slow": (
        changed(ms=10.6),
        "6.0 % more than the median of its class, 10.00 ms over 3 machines; 5 % more is allowed",
    ),
    "unsteady": (changed(step=replace(STEP, spread=0.2)), "steps are unsteady"),
    "idle": (changed(step=replace(STEP, each_ms=(10.0,))), "only 1 of its 2 GPUs worked"),
    "no work": (changed(step=None), "did not say its step time: no word of it"),
    "on the CPU": (changed(step=replace(STEP, device="cpu")), "timed on 'cpu'"),
    "unlike": (changed(links=(*machine(3).links[:2], Link(1, 2, "SYS", None))), "GPU 1 and GPU 2 by 'SYS'"),  # type: ignore[index]
    "slow links": (changed(links=(Link(0, 1, "NV18", 200.0),)), "reach 200 GB/s; 380 are usual"),
    "no links": (changed(links=None), "did not say its links"),
    "other data": (
        changed(data=replace(DATA, files=(replace(DATA.files[0], sha256=VAL[:-1] + "d"), DATA.files[1]))),
        "another sha256 of train/0.bin",
    ),
    "less data": (changed(data=replace(DATA, files=DATA.files[:1])), "not all there: train/1.bin"),
    "late data": (changed(data=replace(DATA, files=DATA.files[:1], left=1)), "could not be read in time: 1 files"),
    "slow data": (changed(data=replace(DATA, mb_s=400.0)), "reads data at 400 MB/s; 1000 are usual"),
    "little room": (changed(disk=replace(DISK, free_mb=4000.0)), "has 4,000 MB free, and a run may write 4,112 MB"),
    "no room to time it": (changed(disk=Disk(None, None, 300.0)), "has 300 MB free"),
    "slow disk": (changed(disk=replace(DISK, read_mb_s=500.0)), "reads its disk at 500 MB/s; 1200 are usual"),
    "no disk": (changed(disk=None, unfinished={"disk": "it was not done after 8.0 s"}), "its disk: it was not done"),
    "damaged data": (
        changed(data=replace(DATA, files=(*DATA.files, replace(DATA.files[0], path="e" * 64)))),
        "damaged: eee",
    ),
    "no data": (changed(data=None), "did not say its data"),
    "validation": (
        changed(data=replace(DATA, files=(*DATA.files, replace(DATA.files[0], path="v", sha256=VAL)))),
        "holds the validation text",
    ),
    "packages": (
        changed(environment=replace(ENVIRONMENT, packages={"torch": "2.7.0", "x": "1"}, sha256="f")),
        "numpy missing for 2.1.0, torch 2.7.0 for 2.8.0, x 1 for none",
    ),
    "no environment": (changed(environment=None), "did not say its environment"),
    "weak walls": (changed(walls=replace(WALLS, level="pod")), "of level pod; landlock is the least"),
    "holes": (changed(walls=replace(WALLS, unknown=("vsock",))), "do not hold: vsock"),
    "no walls": (changed(walls=None, unfinished={"walls": "it was not done after 25.0 s"}), "not done after 25.0 s"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_is_one_reason(fault: str) -> None:
    record, words = FAULTS[fault]
    found = admit(record, want(2), KNOWN)
    assert not found.ok and len(found.reasons) == 1 and words in found.reasons[0], found.reasons


def test_a_disk_that_nobody_had_time_for_is_no_fault() -> None:
    assert admit(changed(disk=None, unfinished={"disk": NO_TIME}), want(2), KNOWN).ok
    assert admit(changed(disk=replace(DISK, read_mb_s=500.0)), want(2)).ok  # nobody knows what is usual


def test_a_median_of_few_machines_says_nothing() -> None:
    few = replace(KNOWN, step_ms=KNOWN.step_ms[:2])
    assert admit(machine(ms=14.0), want(), few).ok and not admit(machine(ms=14.0), want(), KNOWN).ok
    assert admit(machine(ms=10.5), want(), KNOWN).ok


def test_a_core_is_compared_by_its_own_time() -> None:
    """What others do there is no fault of the machine."""
    busy = machine(0)
    assert busy.step is not None
    assert admit(replace(busy, step=replace(busy.step, ms=30.0, each_ms=(30.0,), spread=0.9)), want(0), KNOWN).ok
    assert not admit(replace(busy, step=replace(busy.step, cpu_ms=10.6)), want(0), KNOWN).ok


def test_what_is_wanted_is_read_off_the_track() -> None:
    golf, _ = tracks.load("golf-8xh100", Path())
    tiny, _ = tracks.load("tiny", Path())
    assert judgement.wanted(golf, {}) == judgement.Wanted(True, "H100", 8, "landlock", disk_mb=4112.0)
    assert judgement.wanted(tiny, {}) == judgement.Wanted(False, "", 0, "landlock", disk_mb=272.0)


# ---------------------------------------------------------------- the gate


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path / "runs.db")) as opened:
        with opened.write() as tx:
            add_campaign(tx)
        yield opened


def shown(store: Store, record: Record, lease: str = "m1") -> judgement.Admission:
    return gate.decide(store, to_json(record), want(), lease=lease, campaign_id=1)


def test_a_class_is_known_by_the_machines_that_were_taken(store: Store) -> None:
    for name, ms in (("a", 10.0), ("b", 10.1), ("c", 9.9)):
        assert shown(store, machine(name=name, ms=ms)).ok
    slow = shown(store, machine(name="d", ms=12.0), "m4")
    assert not slow.ok and "20.0 % more than the median" in slow.reasons[0]
    with store.read() as reads:
        known = gate.known(reads, "cuda/NVIDIA H100 80GB HBM3/1", {"m1"})
        kept = admissions.of_machine(reads, "d", "")
    assert known == replace(KNOWN, step_ms=(10.0, 10.1, 9.9), link_gb_s=(), data_mb_s=(1000.0,) * 3)
    assert [(one.ok, one.lease, one.step_ms, one.reasons) for one in kept] == [(False, "m4", 12.0, slow.reasons)]


def test_one_machine_does_not_make_a_class(store: Store) -> None:
    for _ in range(4):
        assert shown(store, machine(name="same", ms=8.0)).ok
    assert shown(store, machine(name="other", ms=12.0)).ok


def test_a_machine_that_was_sent_back_is_not_taken_again_for_a_week(store: Store) -> None:
    assert not shown(store, machine(name="bad", gpus=None)).ok
    again = shown(store, machine(name="bad"))
    assert again.reasons == ("it was sent back before: it did not say its GPUs: no word of it",)
    assert shown(store, machine(name="bad")).reasons == again.reasons  # not longer each time
    assert shown(store, machine(name="good")).ok
    with store.write() as tx:
        tx.connection.execute(text("UPDATE admissions SET created = '2020-01-01T00:00:00.000Z'"))
    assert shown(store, machine(name="bad")).ok
    assert shown(store, machine(name="bad")).ok


def test_text_that_is_no_record_is_a_machine_that_is_refused(store: Store) -> None:
    found = gate.decide(store, "bash: python: command not found\x00\ud800" * 200, want(), lease="m9")
    assert not found.ok and "can't be read" in found.reasons[0]
    with store.read() as reads:
        assert admissions.of_machine(reads, "", "") == []  # one without a name is never known again
        assert gate.known(reads, "") == judgement.Class()


def test_a_record_of_another_version_says_nothing_of_its_class(store: Store) -> None:
    for name in "abc":
        assert shown(store, machine(name=name, ms=5.0)).ok
    with store.write() as tx:
        tx.connection.execute(
            text("UPDATE admissions SET record = REPLACE(record, '\"version\": 1', '\"version\": 0')")
        )
    assert shown(store, machine(name="d")).ok
