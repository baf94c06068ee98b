"""One request to a provider through its own SDK, within bounds of time and size.

Takes a `Server` and what to call on an HTTP client; gives the answer's events as JSON values. Whatever goes wrong is a
`ModelError` whose words name the fix, never the key, and which says what may have been billed.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from agent.errors import UserError
from agent.llm import Billed, ModelError, Usage
from agent.llm.faults import Failure, kind_of, of_stream, refused, said_of, shortened
from agent.llm.values import clean, utf8

if TYPE_CHECKING:
    import httpx2

Json = dict[str, Any]
Ask = Callable[["httpx2.Client"], Iterable[object]]

MOST_BYTES = 2_000_000  # of an answer's text, thinking and arguments
MOST_WIRE_BYTES = 32 * MOST_BYTES  # each token of a stream comes with a hundred bytes around it
COUNT_S = 60.0


@dataclass(frozen=True)
class Server:
    """Who is asked, with which key, and for how long."""

    provider: Literal["anthropic", "openai", "openai-compatible"]
    model: str
    base_url: str
    key: str = field(repr=False)
    key_name: str
    """The environment variable that holds the key."""
    url_name: str
    """What a person changes when the address is wrong."""
    connect_s: float = 10.0
    silent_s: float = 120.0
    answer_s: float = 900.0

    def __post_init__(self) -> None:
        if not all("!" <= letter <= "~" for letter in self.key):
            raise UserError(f"{self.key_name} holds characters that no key has: copy the key once more")

    @property
    def who(self) -> str:
        """In an error's words."""
        return {"anthropic": "Anthropic", "openai": "OpenAI"}.get(self.provider, self.url)

    @property
    def url(self) -> str:
        """The address as it may be shown."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"

    def redacted(self, text: str) -> str:
        return text.replace(self.key, "[key]") if len(self.key) >= 4 else text


class Exchange:
    """One request and what comes back."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.usage: Usage | None = None
        """What was seen of it so far."""
        self.complete = False
        """Whether that is all of it."""
        self._sent = False
        self._status: int | None = None
        self._late = False
        self._full = False
        self._heard = 0
        self._events = 0
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(server.answer_s, self._expire)
        self._timer.daemon = True

    def events(self, ask: Ask) -> Generator[Json]:
        """What the SDK's stream gives, one after the other, as it was sent."""
        import httpx2

        hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._before], "response": [self._after]}
        try:
            with httpx2.Client(
                verify=_certificates(), timeout=self.timeout(), event_hooks=hooks, follow_redirects=False
            ) as client:
                asked: Iterator[object] | None = None
                while True:
                    failed: ModelError | None = None
                    try:
                        asked = iter(ask(client)) if asked is None else asked
                        event = _plain(next(asked))
                    except StopIteration:
                        break
                    except _faults() as error:
                        failed = self._explained(error)
                    if failed is not None:
                        raise failed  # out here it does not carry the SDK's error, which may quote the key
                    self._events += 1
                    yield event
        finally:
            self._timer.cancel()

    def only(self, ask: Callable[["httpx2.Client"], object]) -> Json:
        """An answer that is one object."""
        return next(self.events(lambda client: [ask(client)]))

    def timeout(self) -> "httpx2.Timeout":
        import httpx2

        return httpx2.Timeout(self.server.silent_s, connect=self.server.connect_s)

    def heard(self, *texts: str) -> None:
        """Counts what the model said; raises when it is too much."""
        self._heard += sum(map(utf8, texts))
        if self._heard > MOST_BYTES:
            raise self.error(f"{self.server.who} answered more than {MOST_BYTES:,} bytes, and was cut")

    def malformed(self, what: str) -> ModelError:
        """What was sent is not what the provider's documentation says."""
        server = self.server
        api = {"anthropic": "Messages", "openai": "Responses"}.get(server.provider, "chat completions")
        return self.error(
            f"what {server.url} sent is not in the documentation of {api} ({what}): check {server.url_name}, "
            "and whether something between here and there changes answers"
        )

    def cut(self) -> ModelError:
        """The answer ended too early."""
        if self._sent and not self._events and self._status == 200:
            return self.malformed("no event of a stream")
        return self.error(f"the connection to {self.server.url} broke before the answer was whole")

    def empty(self) -> ModelError:
        return self.error(f"{self.server.model} answered nothing: no words, no call of a tool")

    def failed(self, kind: str, said: str) -> ModelError:
        """An error that came inside of an answer."""
        return self._made(of_stream(self.server, kind, self.server.redacted(said)))

    def error(self, words: str) -> ModelError:
        return self._made(Failure(words))

    def _made(self, failure: Failure) -> ModelError:
        return ModelError(
            self.server.redacted(failure.words),
            billed=self._billed(),
            usage=self.usage,
            retry_after=failure.retry_after,
            lasting=failure.lasting,
        )

    def _billed(self) -> Billed:
        if not self._sent or (self._status is not None and not 200 <= self._status < 300):
            return "nothing"
        return "known" if self.complete and self.usage is not None else "unknown"

    def _explained(self, error: BaseException) -> ModelError:
        server = self.server
        if self._late:
            return self.error(f"{server.who} took longer than {server.answer_s:g} s for an answer, and was cut")
        if self._full:
            return self.error(f"{server.who} sent more than {MOST_WIRE_BYTES:,} bytes, and was cut")
        if self._status is not None and not 200 <= self._status < 300:
            response = getattr(error, "response", None)
            headers = response.headers if response is not None else {}
            body = getattr(error, "body", None)
            said = server.redacted(said_of(body))
            return self._made(refused(server, self._status, kind_of(body), said, headers))
        if hasattr(error, "status_code"):  # an error event in a stream that began well
            body = getattr(error, "body", None)
            return self.failed(kind_of(body), said_of(body))
        return self._broken(error)

    def _broken(self, error: BaseException) -> ModelError:
        import httpx2

        server = self.server
        causes = [one for one in (error, error.__cause__) if one is not None]
        if any(isinstance(one, httpx2.TimeoutException) for one in causes):
            if self._sent:
                return self.error(f"{server.who} said nothing for {server.silent_s:g} s, and was cut")
            return self.error(
                f"{server.url} took no connection within {server.connect_s:g} s: "
                f"is the network up, and {server.url_name} right?"
            )
        if any(isinstance(one, httpx2.TransportError) for one in causes):
            if self._sent:
                return self.cut()
            reason = shortened(server.redacted(str(causes[-1])), 120)
            return self.error(f"can't reach {server.url} ({reason}): is it running, and {server.url_name} right?")
        body = getattr(error, "body", None)
        if body:  # chat completions: an error in the place of a chunk
            return self.failed(kind_of(body), said_of(body))
        return self.malformed(f"{type(causes[-1]).__name__}: {shortened(server.redacted(str(causes[-1])), 120)}")

    def _before(self, request: "httpx2.Request") -> None:
        self._timer.start()  # not sooner: the SDK's own import takes seconds on a busy machine
        request.headers["accept-encoding"] = "identity"  # bytes are counted as they come: nothing may unfold
        if not self.server.key:
            request.headers.pop("authorization", None)
        request.extensions = {**request.extensions, "trace": self._trace}

    def _after(self, response: "httpx2.Response") -> None:
        self._status = response.status_code
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ValueError("compressed, though nobody asked for it")
        response.stream = _bounded(response.stream, self._overflow)

    def _overflow(self) -> None:
        self._full = True

    def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        if name.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._sockets.append(info["return_value"].get_extra_info("socket"))
            if self._late:
                self._hang_up()
        elif name.endswith(".send_request_headers.started"):
            self._sent = True

    def _expire(self) -> None:
        """On the timer's thread: whoever waits for a byte, of headers too, wakes up and finds the connection gone."""
        self._late = True
        self._hang_up()

    def _hang_up(self) -> None:
        for one in self._sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed, or wrapped by the one for TLS that comes after it


def count(server: Server, ask: Callable[["httpx2.Client"], object]) -> int:
    """The provider's own count of a question's tokens."""
    exchange = Exchange(replace(server, answer_s=min(COUNT_S, server.answer_s)))
    tokens = exchange.only(ask).get("input_tokens")
    if not isinstance(tokens, int) or tokens < 0:
        raise exchange.malformed("a count that is no number")
    return tokens


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: they are megabytes."""
    import httpx2

    return httpx2.create_ssl_context()


def _plain(event: object) -> Json:
    from pydantic import BaseModel

    if not isinstance(event, BaseModel):
        raise ValueError("no JSON object")
    made = clean(event.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False))
    if not isinstance(made, dict):
        raise ValueError("no JSON object")
    return made


def _bounded(stream: Any, overflow: Callable[[], None]) -> "httpx2.SyncByteStream":
    import httpx2

    class Bounded(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            left = MOST_WIRE_BYTES
            for piece in stream:
                left -= len(piece)
                if left < 0:
                    overflow()
                    raise ValueError("too much")
                yield piece

        def close(self) -> None:
            stream.close()

    return Bounded()


def _faults() -> tuple[type[BaseException], ...]:
    """What an SDK raises when a server is not there, says no, or sends what is not in its documentation."""
    import sys

    import httpx2

    sdks = (("anthropic", "AnthropicError"), ("openai", "OpenAIError"))
    raised = [getattr(sys.modules[sdk], name) for sdk, name in sdks if sdk in sys.modules]
    shapes = (ValueError, TypeError, AttributeError, LookupError, RecursionError, OSError)
    return (*raised, httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, *shapes)
