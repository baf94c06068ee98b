"""A small client of RunPod's REST interface, version 2, through httpx.

Takes a key and an address; gives checked records. What goes wrong is one of the errors of agent/machines/records.py,
named by who must act. Only requests that may be repeated are repeated here; the key is never in a text.
"""

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import quote, urlsplit

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, ValidationError

from agent.errors import CaddieError, MissingError, UserError, to_install
from agent.llm.redact import Redactor
from agent.machines.records import BadRequest, KeyRefused, NoBalance, NoCapacity, NotForUs, Unclear, Unreached, Waiting

if TYPE_CHECKING:
    import httpx

API = "https://api.runpod.io"
KEY = "RUNPOD_API_KEY"
MOST_BYTES = 16_000_000
TRIES = 4
BACKOFF_S = 1.0
WAIT_S = 5.0  # where a 429 does not say how long

Stock = Literal["NONE", "LOW", "MEDIUM", "HIGH"]
Model = TypeVar("Model", bound=BaseModel)


def _known_stock(word: object) -> object:
    """A word that came after this was written promises nothing."""
    return word if word is None or word in get_args(Stock) else "NONE"


class Endpoint(BaseModel):
    host: str = Field(min_length=1, max_length=253)
    port: int = Field(ge=1, le=65535)
    username: str = Field(min_length=1, max_length=100)


class Ssh(BaseModel):
    direct: Endpoint | None


class Gpu(BaseModel):
    id: str
    count: int = 1


class Pod(BaseModel):
    """What is read of a pod."""

    id: str = Field(min_length=1, max_length=200)
    name: str
    status: str = Field(max_length=200)  # whoever rents knows the words; there may be new ones
    cost: float = Field(ge=0, allow_inf_nan=False)  # dollars an hour, now; nothing says that its disk is among them
    disk: float | None = Field(None, ge=0, allow_inf_nan=False)  # GB
    gpu: Gpu | None = None
    dataCenterId: str | None = None
    ssh: Ssh
    createdAt: AwareDatetime | None = None


class Price(BaseModel):
    secure: float = Field(ge=0, allow_inf_nan=False)
    community: float = Field(ge=0, allow_inf_nan=False)


class Count(BaseModel):
    secure: int
    community: int


class PlaceStock(BaseModel):
    id: str
    availability: Annotated[Stock, BeforeValidator(_known_stock)]


class GpuType(BaseModel):
    id: str
    secure: bool
    community: bool
    price: Price
    maxCount: Count
    availability: Annotated[Stock | None, BeforeValidator(_known_stock)] = None
    dataCenters: list[PlaceStock] = Field(default_factory=list)


class Volume(BaseModel):
    id: str
    name: str
    size: int
    dataCenter: str
    type: str = "STANDARD"


class Record(BaseModel):
    podId: str
    totalAmount: float = Field(allow_inf_nan=False)


class VolumeRecord(BaseModel):
    networkVolumeId: str
    startTime: datetime
    endTime: datetime
    totalAmount: float = Field(ge=0, allow_inf_nan=False)


class _VolumeRecords(BaseModel):
    records: list[VolumeRecord]


class _Pods(BaseModel):
    pods: list[dict[str, Any]]


class _Gpus(BaseModel):
    gpus: list[dict[str, Any]]


class _Volumes(BaseModel):
    networkVolumes: list[Volume]


class _Records(BaseModel):
    records: list[Record]


class _Problem(BaseModel):
    title: str = ""
    detail: str = ""
    errors: list[str] = Field(default_factory=list)


def key_of(environ: Mapping[str, str] = os.environ) -> str:
    key = environ.get(KEY, "").strip()
    if not key:
        raise MissingError(f"renting from RunPod needs a key in the environment: export {KEY}=...")
    if not all("!" <= letter <= "~" for letter in key):
        raise UserError(f"{KEY} holds characters that no key has: copy the key once more")
    return key


class Client:
    """One connection pool to the provider."""

    def __init__(
        self,
        key: str,
        url: str = API,
        *,
        connect_s: float = 10.0,
        answer_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise MissingError(f"renting from RunPod needs httpx: {to_install('remote')}") from error
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise UserError(f"{url}: a key is only sent over https, or to this machine")
        self._redactor = Redactor((key,))
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(answer_s, connect=connect_s),
            follow_redirects=False,
        )

    def close(self) -> None:
        self._http.close()

    def create(self, body: Mapping[str, Any]) -> Pod:
        """Asked once: whoever asks knows what to do when the answer is lost."""
        return self._read(Pod, self._once("POST", "/v2/pods", body=body))

    def pod(self, pod_id: str) -> Pod | None:
        found = self._often("GET", _pod(pod_id), missing=True)
        return None if found is None else self._read(Pod, found)

    def pods(self, prefix: str = "") -> list[Pod]:
        """All that can be read. Raises Unclear where one whose name begins so can't."""
        found = self._read(_Pods, self._often("GET", "/v2/pods")).pods
        return self._each(Pod, "pods", found, lambda one: str(one.get("name", prefix)).startswith(prefix))

    def delete(self, pod_id: str) -> None:
        """One that is gone already is no error."""
        self._often("DELETE", _pod(pod_id), missing=True)

    def gpus(self, count: int, cloud: str, kinds: Collection[str] = ()) -> list[GpuType]:
        """Prices, ceilings, and what is in stock for pods with so many GPUs. Raises Unclear where one of `kinds` can't
        be read."""
        params = {"include": "AVAILABILITY", "product": "POD", "count": str(count), "cloud": cloud}
        found = self._read(_Gpus, self._often("GET", "/v2/catalog/gpus", params=params)).gpus
        return self._each(GpuType, "gpus", found, lambda one: one.get("id") in kinds)

    def volumes(self) -> list[Volume]:
        return self._read(_Volumes, self._often("GET", "/v2/network-volumes")).networkVolumes

    def billed(self, start: datetime, end: datetime) -> list[Record]:
        """By hour and pod."""
        params = {"startTime": _moment(start), "endTime": _moment(end), "bucketSize": "hour"}
        return self._read(_Records, self._often("GET", "/v2/billing/pods", params=params)).records

    def billed_volumes(self, start: datetime, end: datetime, volume: str) -> list[VolumeRecord]:
        """By hour."""
        params = {"startTime": _moment(start), "endTime": _moment(end), "bucketSize": "hour", "networkVolumeId": volume}
        found = self._often("GET", "/v2/billing/network-volumes", params=params)
        return self._read(_VolumeRecords, found).records

    def _often(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, missing: bool = False
    ) -> bytes | None:
        """A request that changes nothing more when it is made again."""
        for attempt in range(TRIES):
            try:
                return self._once(method, path, params=params, missing=missing)
            except Waiting as error:
                if attempt == TRIES - 1:
                    raise
                self._sleep(error.retry_after)
            except Unclear:
                if attempt == TRIES - 1:
                    raise
                self._sleep(BACKOFF_S * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def _once(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        missing: bool = False,
    ) -> bytes | None:
        import httpx

        try:
            with self._http.stream(method, path, params=params, json=body) as response:
                content = _bounded(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unreached(f"can't reach RunPod at {self._http.base_url}: {self._redactor.text(str(error))}") from None
        except httpx.HTTPError as error:
            what = self._redactor.text(str(error)) or type(error).__name__
            raise Unclear(f"RunPod's answer to {method} {path} was lost: {what}") from None
        if response.is_success:
            return content
        if response.status_code == 404 and missing:
            return None
        raise self._refusal(method, path, response.status_code, content, response.headers)

    def _refusal(self, method: str, path: str, status: int, content: bytes, headers: Mapping[str, str]) -> CaddieError:
        try:
            problem = _Problem.model_validate_json(content)
            said = "; ".join(part for part in (problem.detail or problem.title, *problem.errors[:5]) if part)
        except ValidationError:
            said = content[:200].decode("utf-8", "replace")
        said = self._redactor.text(said)[:1000] or "no reason given"
        if status == 429:
            return Waiting(f"RunPod asks to wait: {said}", _seconds(headers.get("Retry-After")))
        if status == 401:
            return KeyRefused(f"RunPod does not know the key in {KEY}: {said}. Make a new one in its console")
        if status == 402:
            return NoBalance(f"RunPod's account has no balance left: {said}. Add credit; what is rented may be stopped")
        if status == 403:
            return NotForUs(f"RunPod refuses {method} {path} to this key or account: {said}")
        if status == 400:
            return NoCapacity(said)
        if status >= 500 or 300 <= status < 400:
            return Unclear(f"RunPod failed at {method} {path} ({status}): {said}")
        return BadRequest(f"RunPod says {status} to {method} {path}: {said}")

    def _read(self, model: type[Model], content: bytes | None) -> Model:
        try:
            return model.model_validate_json(content or b"")
        except ValidationError as error:
            raise _undocumented(error) from None

    def _each(
        self,
        model: type[Model],
        name: str,
        items: Sequence[Mapping[str, Any]],
        ours: Callable[[Mapping[str, Any]], bool],
    ) -> list[Model]:
        """Each by itself: what is not ours and can't be read keeps nobody from what is."""
        found = []
        for number, item in enumerate(items):
            try:
                found.append(model.model_validate(item))
            except ValidationError as error:
                if ours(item):
                    raise _undocumented(error, name, number) from None
        return found


def _undocumented(error: ValidationError, *within: str | int) -> Unclear:
    first = error.errors()[0]
    where = ".".join(map(str, (*within, *first["loc"])))
    return Unclear(f"RunPod's answer is not in its documentation: {where}: {first['msg']}")


def _bounded(response: "httpx.Response") -> bytes:
    import httpx

    pieces, size = [], 0
    for piece in response.iter_bytes():
        size += len(piece)
        if size > MOST_BYTES:
            raise httpx.DecodingError(f"more than {MOST_BYTES:,} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _pod(pod_id: str) -> str:
    return f"/v2/pods/{quote(pod_id, safe='')}"


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _seconds(text: str | None) -> float:
    """Of Retry-After; never so long that a typing error stops a night."""
    try:
        return min(600.0, max(0.0, float(text or WAIT_S)))
    except ValueError:
        return WAIT_S
