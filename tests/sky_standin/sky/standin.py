"""What stands behind the stand-in: clusters in a file, a clock that `ahead` moves, and faults before a call.

Faults: "no answer" (nothing happens), "lost" (it happens, and nobody hears), "silent" (it is never answered), "killed"
(it happens, and the caller is killed); of a launch "no stock", "nowhere", "refused", "setup" (it is up and not ready)
and "remains" (it failed, and a part of it is there); of `down` "stays".
"""

import base64
import contextlib
import fcntl
import json
import os
import pickle
import signal
import time
from pathlib import Path
from typing import NamedTuple

from sky import exceptions
from sky.catalog.common import InstanceTypeInfo
from sky.skylet.autostop_lib import AutostopWaitFor
from sky.utils.common import StatusRefreshMode
from sky.utils.status_lib import ClusterStatus

URL = "http://127.0.0.1:46580"
# cloud, region, kind, GPUs, price, spot price
OFFERS = [
    ("AWS", "us-east-1", "H100", 8, 55.04, 21.9),
    ("AWS", "us-east-1", "H100", 1, 6.88, 2.5),
    ("AWS", "us-west-2", "H100", 1, 7.2, float("nan")),
    ("Lambda", "us-south-1", "H100", 1, 3.29, float("nan")),
    ("Nebius", "eu-north1", "H100", 1, 2.95, 1.25),
    ("Nebius", "eu-north1", "H200", 1, 3.5, 1.45),
]
EMPTY = {"ahead": 0.0, "clusters": {}, "over": [], "requests": {}, "faults": [], "calls": [], "ssh": None, "steps": 0}


class Launch(NamedTuple):
    task: object
    name: str
    minutes: int | None
    wait_for: object
    down: bool


@contextlib.contextmanager
def opened():
    """The state, while nobody else has it."""
    path = Path(os.environ["SKY_STANDIN"])
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state = json.loads(file.read() or json.dumps(EMPTY))
        yield state
        file.seek(0)
        file.truncate()
        file.write(json.dumps(state))
        file.flush()


def now(state):
    return time.time() + state["ahead"]


def ask(call, do):
    with opened() as state:
        _ends(state)
        state["calls"].append(call)
        state["fault"] = fault = _fault(state, call)
        request_id = None if fault == "no answer" else _done(state, do)
        state["steps"] -= 1
        killed = fault == "killed" or state["steps"] == 0
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
    if request_id is None:
        raise exceptions.ApiServerConnectionError(URL)
    return request_id


def _done(state, do):
    try:
        said = _packed(do(state))
    except Exception as error:
        said = _packed(None, error)
    if state["fault"] == "lost":
        said = _packed(None, exceptions.ApiServerConnectionError(URL))
    request_id = f"request-{len(state['requests'])}"
    state["requests"][request_id] = None if state["fault"] == "silent" else said
    return request_id


def answer(request_id):
    while True:
        with opened() as state:
            packed = state["requests"][request_id]
        if packed is not None:
            kind, said = pickle.loads(base64.b64decode(packed))
            if kind is None:
                return said
            error = kind.__new__(kind)
            error.args, error.__dict__ = said
            raise error
        time.sleep(0.02)


def cancel(state, request_ids):
    for one in request_ids:
        state["requests"][one] = _packed(None, exceptions.RequestCancelled("cancelled"))
    return request_ids


def price(infra, kind, gpus, spot):
    for cloud, region, its_kind, count, usd, spot_usd in OFFERS:
        if (f"{cloud.lower()}/{region}", its_kind, count) == (infra, kind, gpus):
            return spot_usd if spot else usd
    raise ValueError(f"no price of {gpus} x {kind} in {infra}")


def catalogue(count, clouds):
    found = {}
    for cloud, region, kind, gpus, usd, spot_usd in OFFERS:
        if gpus == count and cloud.lower() in [one.lower() for one in clouds]:
            info = InstanceTypeInfo(
                cloud, f"{gpus}x{kind}", kind, float(gpus), 26.0, 80.0, 200.0, usd, spot_usd, region
            )
            found.setdefault(kind, []).append(info)
    return found


def launch(state, asked):
    resources, fault = asked.task.resources, state["fault"]
    ((kind, gpus),) = resources.accelerators.items()
    usd = price(resources.infra, kind, gpus, bool(resources.use_spot))
    if fault == "refused":
        raise exceptions.NoCloudAccessError("No cloud is enabled.")
    most = resources.max_hourly_cost
    if fault == "nowhere" or (most is not None and usd > most):
        raise exceptions.ResourcesUnavailableError("Catalog does not contain any instances satisfying the request")
    stock = exceptions.ResourcesUnavailableError(
        f"Failed to acquire resources in all zones in {resources.region}.", failover_history=[Exception("no stock")]
    )
    if fault == "no stock":
        raise stock
    there = state["clusters"].get(asked.name)
    if there is not None and there["infra"] != resources.infra:
        raise exceptions.ResourcesMismatchError(f"Cluster {asked.name} is in {there['infra']}.")
    up = fault not in ("remains", "silent")
    state["clusters"][asked.name] = {
        "infra": resources.infra,
        "kind": kind,
        "gpus": gpus,
        "spot": bool(resources.use_spot),
        "disk": resources.disk_size,
        "usd": usd,
        "setup": asked.task.setup,
        "status": "UP" if up else "INIT",
        "began": now(state),
        "minutes": -1,
        "ended": None,
    }
    if fault == "remains":
        raise stock
    if fault == "setup":
        raise exceptions.CommandError(1, "bash setup.sh", "Failed to setup.", "pip: command not found")
    if up:
        autostop(state, asked.name, asked.minutes, asked.wait_for, asked.down)


def autostop(state, name, minutes, wait_for, down):
    one = _cluster(state, name)
    if one["status"] != "UP":
        raise exceptions.ClusterNotUpError(f"Cluster {name} is not up.")
    kept = wait_for == AutostopWaitFor.NONE and down
    one.update(minutes=minutes if kept else -1, since=now(state))


def down(state, name):
    one = _cluster(state, name)
    if state["fault"] == "stays":
        raise RuntimeError("Failed to terminate: the cloud did not answer")
    _over(state, name, one)


def status(state, names, refresh):
    if refresh == StatusRefreshMode.FORCE:
        for name, one in list(state["clusters"].items()):
            if one["ended"] is not None and (names is None or name in names):
                _over(state, name, one)
    wanted = [name for name in state["clusters"] if names is None or name in names]
    return [_said(state, name) for name in wanted]


def cost_report(state):
    there = [(name, one, now(state)) for name, one in state["clusters"].items()]
    over = [(name, one, one["noticed"]) for name, one in state["over"]]
    return [
        {
            "name": name,
            "duration": until - one["began"],
            "total_cost": 0.0 if one.get("unpriced") else one["usd"] * (until - one["began"]) / 3600,
        }
        for name, one, until in (*there, *over)
    ]


def _said(state, name):
    from sky.backends.cloud_vm_ray_backend import CloudVmRayResourceHandle
    from sky.resources import Resources
    from sky.schemas.api.responses import StatusResponse

    one, ssh = state["clusters"][name], state["ssh"]
    resources = Resources(infra=one["infra"], accelerators={one["kind"]: one["gpus"]}, use_spot=one["spot"])
    handle = CloudVmRayResourceHandle(
        cluster_name=name,
        cluster_name_on_cloud=name,
        cluster_yaml=None,
        launched_nodes=1,
        launched_resources=resources,
        stable_internal_external_ips=[("10.0.0.1", ssh[0])] if ssh and one["status"] == "UP" else None,
        stable_ssh_ports=[ssh[1]] if ssh else None,
        cluster_info=ssh[2] if ssh else "ubuntu",
    )
    return StatusResponse(name, int(one["began"]), handle, ClusterStatus(one["status"]), one["minutes"], True)


def _cluster(state, name):
    if name not in state["clusters"]:
        raise exceptions.ClusterDoesNotExist(f"Cluster {name} does not exist.")
    return state["clusters"][name]


def _ends(state):
    """Those whose time is over end by themselves; SkyPilot hears of it when it asks the cloud."""
    for one in state["clusters"].values():
        end = one.get("since", 0.0) + one["minutes"] * 60
        if one["minutes"] >= 0 and one["ended"] is None and now(state) >= end:
            one["ended"] = end


def _over(state, name, one):
    one["noticed"] = now(state)
    one["ended"] = one["ended"] or one["noticed"]
    state["over"].append((name, one))
    del state["clusters"][name]


def _fault(state, call):
    for index, (of, fault) in enumerate(state["faults"]):
        if of in (call, "*"):
            if of == call:
                del state["faults"][index]
            return fault
    return None


def _packed(said, error=None):
    """Errors are made again without their own making, as there: it may want other things than their text."""
    what = (None, said) if error is None else (type(error), (error.args, {**error.__dict__}))
    return base64.b64encode(pickle.dumps(what)).decode()
