"""What a person may rent through SkyPilot, by its SDK: clusters launched, found, looked at, ended, and what they cost.

Takes nothing: SkyPilot has a server of its own, and that the keys of the clouds. Gives plain records. Each of its calls
gives the id of a request, whose answer is waited for here, within a time; what goes wrong is one of the errors of
agent/machines/records.py, named by who must act.
"""

import contextlib
import json
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from agent.errors import CaddieError, MissingError, to_install
from agent.machines.records import Address, BadRequest, KeyRefused, NoCapacity, NotForUs, Unclear, Unreached

T = TypeVar("T")
ANSWER_S = 120.0  # its server looks at the cloud before it answers
CALL_OFF_S = 30.0  # for a request that is given up
MOST_WORDS = 1000
QUIET = ("SKYPILOT_DISABLE_USAGE_COLLECTION", "1")  # it would tell its makers what is launched


class Late(Unclear):
    """There was no answer in time; what was asked for is called off, if that was still possible."""


class NotReady(NoCapacity):
    """There is a machine, and what makes it ready failed: it has to be ended, and another one may do."""


@dataclass(frozen=True)
class Offer:
    """One line of SkyPilot's catalogue: a kind of machine in a region."""

    cloud: str
    region: str
    kind: str  # of GPU
    gpus: int
    usd: float
    spot_usd: float | None  # None: it is not to be had so


@dataclass(frozen=True)
class Wanted:
    """A cluster of one machine."""

    name: str
    place: str  # cloud/region
    kind: str
    gpus: int
    spot: bool
    most_usd: float | None
    disk_gb: int
    image: str
    setup: str  # runs on it before it is ready
    minutes: int  # after which SkyPilot ends it, whatever it does then


@dataclass(frozen=True)
class Cluster:
    """As SkyPilot shows it now."""

    name: str
    status: str
    usd_per_hour: float  # 0: not known yet
    kind: str = ""
    gpus: int = 0
    place: str = ""
    address: Address | None = None
    launched: datetime | None = None


@dataclass(frozen=True)
class Cost:
    """What SkyPilot reckons that all clusters of a name cost: its catalogue's price, and how long they were there."""

    usd: float
    seconds: float


class Account:
    def __init__(self, *, answer_s: float = ANSWER_S) -> None:
        """Asks nobody yet, and starts no server. Raises MissingError without the SDK."""
        os.environ.setdefault(*QUIET)
        try:
            import sky
            from sky.skylet.autostop_lib import AutostopWaitFor
        except ModuleNotFoundError as error:
            raise MissingError(f"machines of other clouds need SkyPilot: {to_install('sky')}") from error
        self._sky: Any = sky
        # Neither jobs of SkyPilot's own nor open connections put it off: it is a dead man's switch.
        self._whatever = AutostopWaitFor.NONE
        self._answer_s = answer_s

    def offers(self, gpus: int, clouds: Sequence[str]) -> list[Offer]:
        """All machines with so many GPUs, of whatever kind."""
        found = self._ask(
            lambda: self._sky.client.sdk.list_accelerators(
                gpus_only=True, quantity_filter=gpus, clouds=list(clouds), all_regions=True
            )
        )
        return [offer for some in found.values() for one in some if (offer := _offer(one)) is not None]

    def launch(self, wanted: Wanted, within_s: float) -> None:
        """Waits until it is ready, and the time of its end is set. In doubt (`Unclear`) there may be one of this name.

        Raises NotReady: there is one, of no use.
        """
        sky = self._sky

        def ask() -> Any:
            resources = sky.Resources(
                infra=wanted.place,
                accelerators={wanted.kind: wanted.gpus},
                use_spot=wanted.spot,
                disk_size=wanted.disk_gb,
                image_id=wanted.image or None,
                max_hourly_cost=wanted.most_usd,
            )
            task = sky.Task(setup=wanted.setup, num_nodes=1, resources=resources)
            return sky.launch(
                task,
                cluster_name=wanted.name,
                retry_until_up=False,
                idle_minutes_to_autostop=wanted.minutes,
                wait_for=self._whatever,
                down=True,
            )

        self._ask(ask, within_s, call_off=True)

    def clusters(self, names: Sequence[str] | None = None, *, ask_clouds: bool = True) -> list[Cluster]:
        """All, or those of these names; one that is not there any more is not among them."""
        mode = self._sky.StatusRefreshMode
        refresh = mode.FORCE if ask_clouds else mode.NONE
        found = self._ask(lambda: self._sky.status(None if names is None else list(names), refresh=refresh))
        return [_cluster(one) for one in found]

    def end(self, name: str) -> None:
        """One that is over already is no error."""
        with contextlib.suppress(_Gone):
            self._ask(lambda: self._sky.down(name))

    def ends_in(self, name: str, minutes: int) -> None:
        """From now on."""
        self._ask(lambda: self._sky.autostop(name, minutes, wait_for=self._whatever, down=True))

    def costs(self, days: int) -> dict[str, Cost]:
        """By name, of clusters that are there or were used in so many days."""
        found: dict[str, Cost] = {}
        for one in self._ask(lambda: self._sky.cost_report(days=days)):
            before = found.get(str(one["name"]), Cost(0.0, 0.0))
            usd, seconds = float(one["total_cost"] or 0.0), float(one["duration"] or 0.0)
            found[str(one["name"])] = Cost(before.usd + usd, before.seconds + seconds)
        return found

    def _ask(self, request: Callable[[], Any], within_s: float | None = None, *, call_off: bool = False) -> Any:
        """Makes a request and waits for its answer, in a thread of its own: SkyPilot itself waits for ever. `call_off`:
        what got no answer in time is not to be done any more."""
        seconds = self._answer_s if within_s is None else within_s
        said: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        made: list[Any] = []

        def run() -> None:
            try:
                made.append(request())
                said.put((self._sky.get(made[0]), None))
            except Exception as error:  # SkyPilot's have nothing in common, and anything may come through it
                said.put((None, error))

        threading.Thread(target=run, name="sky", daemon=True).start()
        try:
            answer, error = said.get(timeout=seconds)
        except queue.Empty:
            if made and call_off:
                with contextlib.suppress(CaddieError):
                    self._ask(lambda: self._sky.api_cancel(request_ids=made, silent=True), CALL_OFF_S)
            raise Late(f"SkyPilot gave no answer within {seconds:.0f} s") from None
        if error is not None:
            raise self._meaning(error, asked=bool(made)) from error
        return answer

    def _meaning(self, error: Exception, *, asked: bool) -> CaddieError:
        wrong, words = self._sky.exceptions, (str(error) or type(error).__name__)[:MOST_WORDS]
        if isinstance(error, wrong.ApiServerConnectionError) and not asked:  # nor would it make two of one name
            return Unreached(f"can't reach SkyPilot's server: {words}")
        if isinstance(error, json.JSONDecodeError):  # a ValueError too, and of its server
            return Unclear(f"SkyPilot's answer can't be read: {words}")
        if isinstance(error, wrong.ClusterDoesNotExist):
            return _Gone(words)
        if isinstance(error, wrong.ResourcesUnavailableError):
            # Without a history nobody was asked: no cloud that may be asked has such a machine.
            return NoCapacity(f"no capacity: {words}") if error.failover_history else NotForUs(f"it has none: {words}")
        if isinstance(error, wrong.CommandError | wrong.ClusterSetUpError):
            return NotReady(f"it could not be made ready: {words}")
        refused = (
            wrong.NoCloudAccessError,
            wrong.InvalidCloudCredentials,
            wrong.CloudUserIdentityError,
            wrong.ApiServerAuthenticationError,
            wrong.PermissionDeniedError,
        )
        if isinstance(error, refused):
            return KeyRefused(f"SkyPilot may not rent there: {words}. `sky check` says which clouds it can use")
        if isinstance(error, wrong.NotSupportedError | wrong.UserRequestRejectedByPolicy | ValueError | TypeError):
            return BadRequest(f"SkyPilot can't do what was asked for: {words}")
        return Unclear(f"SkyPilot failed, or its answer was lost: {words}")


class _Gone(Unclear):
    """There is no such cluster."""


def _offer(one: Any) -> Offer | None:
    """None: SkyPilot's catalogue has no price of it."""
    usd, spot = _price(one.price), _price(one.spot_price)
    if not usd:
        return None
    return Offer(
        str(one.cloud).lower(),
        str(one.region),
        str(one.accelerator_name),
        int(one.accelerator_count),
        usd,
        spot or None,
    )


def _cluster(one: Any) -> Cluster:
    handle, status = one.handle, one.status.value
    launched = datetime.fromtimestamp(one.launched_at, UTC) if one.launched_at else None
    resources = getattr(handle, "launched_resources", None)
    if resources is None:
        return Cluster(str(one.name), status, 0.0, launched=launched)
    kinds = dict(resources.accelerators or {})
    kind, gpus = next(iter(kinds.items()), ("", 0))
    host, user = handle.head_ip, handle.ssh_user
    return Cluster(
        name=str(one.name),
        status=status,
        usd_per_hour=_hourly(handle),
        kind=kind,
        gpus=int(gpus),
        place="/".join(str(part).lower() for part in (resources.cloud, resources.region) if part),
        address=Address(str(host), int(handle.head_ssh_port or 22), str(user)) if host and user else None,
        launched=launched,
    )


def _hourly(handle: Any) -> float:
    """What its catalogue says now; what it has no price for is what the book says."""
    try:
        return _price(handle.get_hourly_price())
    except (AssertionError, ValueError):
        return 0.0


def _price(value: Any) -> float:
    """0 where there is none: its tables have NaN there."""
    found = float(value) if value is not None else 0.0
    return found if 0 < found < float("inf") else 0.0
