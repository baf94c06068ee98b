"""The client for RunPod against a stand-in: each refusal is an error named by who must act, and no key gets out."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.errors import CaddieError, InfraError, MissingError, UserError
from agent.machines.records import (
    BadRequest,
    Candidate,
    KeyRefused,
    NoBalance,
    NoCapacity,
    NotForUs,
    Unclear,
    Waiting,
)
from agent.runners.runpod.client import Client, key_of
from agent.runners.runpod.pods import Pods, body
from agent.runners.runpod.settings import Settings
from tests.runpod import H100, KEY, Fault, StandIn

UNTIL = datetime(2026, 11, 1, 20, 0, tzinfo=UTC)
ONE = Candidate(H100, 1, "US-TX-3", 3.5)
ASKED = body(Settings(), "ssh-ed25519 AAAA", ONE, "caddie-00000000-c1-m1", UNTIL, 3600.0)


@pytest.fixture
def client(stand: StandIn) -> Iterator[Client]:
    made = Client(KEY, stand.url, sleep=stand.sleep)
    yield made
    made.close()


def test_a_pod_from_its_request_to_its_end(stand: StandIn, client: Client) -> None:
    pod = client.create(ASKED)
    assert (pod.status, pod.cost, pod.dataCenterId, pod.ssh.direct) == ("PROVISIONING", 3.49, "US-TX-3", None)
    stand.advance(45)
    running = client.pod(pod.id)
    assert running is not None and running.status == "RUNNING" and running.ssh.direct is None
    stand.advance(10)
    reached = client.pod(pod.id)
    assert reached is not None and reached.ssh.direct is not None and reached.ssh.direct.host == "127.0.0.1"
    assert [one.id for one in client.pods()] == [pod.id]
    client.delete(pod.id)
    client.delete(pod.id)  # no error
    assert client.pod(pod.id) is None and client.pods() == []
    records = client.billed(stand.at - timedelta(hours=1), stand.at)
    assert sum(one.totalAmount for one in records) == pytest.approx(stand.billed())
    assert stand.billed() == pytest.approx((3.49 + 60 * 0.1 / 730) * 55 / 3600)


@pytest.mark.parametrize(
    ("setting", "error", "words"),
    [
        ({"rule": "image must not be empty"}, NoCapacity, "image must not be empty"),
        ({"none_left": {(H100, "")}}, NoCapacity, "no longer any instances"),
        ({"balance": 0.0}, NoBalance, "Add credit"),
        ({"forbidden": {H100}}, NotForUs, "no access to this pool"),
    ],
)
def test_a_refused_request_says_who_must_act(
    stand: StandIn, client: Client, setting: dict[str, object], error: type[CaddieError], words: str
) -> None:
    for name, value in setting.items():
        setattr(stand, name, value)
    with pytest.raises(error, match=words):
        client.create(ASKED)
    assert stand.living() == []


def test_a_wrong_body_is_never_asked_again(stand: StandIn, client: Client) -> None:
    if stand.schemas is None:
        pytest.skip("no ../shared/specs here to hold requests against")
    with pytest.raises(BadRequest, match=r"422.*interruptible"):
        client.create({**ASKED, "interruptible": True})
    assert len(stand.seen) == 1


def test_a_wrong_key_is_the_persons(stand: StandIn) -> None:
    client = Client("rpa_wrong0123456789abcdef", stand.url, sleep=stand.sleep)
    with pytest.raises(KeyRefused, match="Make a new one"):
        client.pods()
    client.close()


def test_what_may_be_repeated_is_repeated(stand: StandIn, client: Client) -> None:
    stand.faults.extend([("GET", "429"), ("GET", "500"), ("GET", "lost")])
    before = stand.at
    assert client.pods() == []
    assert (stand.at - before).total_seconds() == 7 + 2 + 4  # as told by the first, then twice as long each time
    stand.faults.extend([("GET", "500")] * 4)
    with pytest.raises(Unclear, match="upstream failed"):
        client.pods()
    pod = client.create(ASKED)
    stand.faults.append(("DELETE", "lost done"))
    client.delete(pod.id)  # the second time it is gone already
    assert stand.living() == []


@pytest.mark.parametrize(
    ("fault", "error"), [("429", Waiting), ("500", Unclear), ("lost", Unclear), ("garbage", Unclear)]
)
def test_making_a_pod_is_asked_for_once(stand: StandIn, client: Client, fault: Fault, error: type[InfraError]) -> None:
    stand.faults.append(("POST", fault))
    with pytest.raises(error):
        client.create(ASKED)
    assert stand.seen == [("POST", "/v2/pods")]


def test_a_provider_that_never_answers_is_not_waited_for(stand: StandIn) -> None:
    client = Client(KEY, stand.url, answer_s=0.2, sleep=stand.sleep)
    stand.faults.append(("POST", "silent"))
    with pytest.raises(Unclear, match="timed out"):
        client.create(ASKED)
    assert stand.seen == [("POST", "/v2/pods")]
    client.close()


def test_answers_that_are_none_are_no_answers(stand: StandIn, client: Client) -> None:
    stand.faults.append(("GET", "garbage"))
    with pytest.raises(Unclear, match=r"not in its documentation: pods\.0\.id"):
        client.pods()
    stand.faults.extend([("GET", "redirect")] * 4)
    with pytest.raises(Unclear, match="302"):  # never followed: the key would go along
        client.pods()


def answered(monkeypatch: pytest.MonkeyPatch, path: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """RunPod's lists at `path` with something in them that was never in its description."""
    once = Client._once

    def changed(self: Client, method: str, asked: str, **named: Any) -> bytes | None:
        content = once(self, method, asked, **named)
        if (method, asked) != ("GET", path) or content is None:
            return content
        said = json.loads(content)
        for items in said.values():
            change(items)
        return json.dumps(said).encode()

    monkeypatch.setattr(Client, "_once", changed)


def test_what_others_have_on_the_account_keeps_nobody_from_his_own(
    stand: StandIn, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    pods = Pods(client, Settings(), "ssh-ed25519 AAAA", clock=stand.clock)
    mine = pods.create(ONE, "caddie-00000000-c1-m1", UNTIL)

    def change(items: list[dict[str, Any]]) -> None:
        items[0]["status"] = "MIGRATING"  # a word that is new
        items.append({"id": "pod9", "name": "somebody's", "kind": "of a new sort"})

    answered(monkeypatch, "/v2/pods", change)
    (seen,) = pods.list("caddie-00000000-")
    assert (seen.provider_id, seen.state, seen.words) == (mine.provider_id, "starting", "MIGRATING")
    with pytest.raises(Unclear, match=r"pods\.1\.status"):
        pods.list("somebody")


def test_a_kind_that_nobody_asks_for_keeps_nobody_from_another(
    stand: StandIn, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(items: list[dict[str, Any]]) -> None:
        items[:] = [{**one, "availability": "SOME" if one["id"] == H100 else "LOW"} for one in items]
        del items[-1]["price"]

    answered(monkeypatch, "/v2/catalog/gpus", change)
    found = {one.id: one for one in client.gpus(1, "SECURE", [H100])}
    assert found[H100].availability == "NONE" and found["NVIDIA H100 PCIe"].availability == "LOW"
    assert "NVIDIA H200" not in found
    with pytest.raises(Unclear, match=r"gpus\.2\.price"):
        client.gpus(1, "SECURE", ["NVIDIA H200"])


def test_no_key_is_in_an_error(stand: StandIn, client: Client) -> None:
    stand.rule = f"the key {KEY} is not allowed to do that"
    with pytest.raises(NoCapacity) as caught:
        client.create(ASKED)
    assert KEY not in str(caught.value) and "not allowed" in str(caught.value)
    assert caught.value.__context__ is None
    stand.port, port = 1, stand.port
    lone = Client(KEY, stand.url, sleep=stand.sleep)
    stand.port = port
    with pytest.raises(Unclear, match="can't reach") as unreached:
        lone.pods()
    assert KEY not in str(unreached.value) and KEY not in repr(vars(lone)["_redactor"])


def test_a_key_goes_only_where_it_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="only sent over https"):
        Client(KEY, "http://example.invalid")
    with pytest.raises(MissingError, match="export RUNPOD_API_KEY"):
        key_of({})
    with pytest.raises(UserError, match="copy the key once more"):
        key_of({"RUNPOD_API_KEY": "a key"})


def test_terminated_is_gone(stand: StandIn, client: Client) -> None:
    pods = Pods(client, Settings(), "ssh-ed25519 AAAA", clock=stand.clock)
    seen = pods.create(ONE, "caddie-00000000-c1-m1", UNTIL)
    assert [one.provider_id for one in pods.list("caddie-00000000-")] == [seen.provider_id]
    assert pods.list("caddie-11111111-") == []
    pods.delete(seen.provider_id)
    assert pods.look(seen.provider_id) is None
