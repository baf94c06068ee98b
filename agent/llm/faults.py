"""What a provider's refusal means: words that name the fix, how long to wait, and whether waiting helps at all.

Takes the status, the provider's own words (without the key) and the headers; gives a `Failure`.
"""

import email.utils
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent.llm.wire import Server

MOST_WAIT_S = 24 * 3600.0
CREDIT = ("credit balance", "exceeded your current quota", "insufficient_quota", "billing", "insufficient credits")
TOO_LONG = (
    "prompt is too long",
    "context length",
    "context_length",
    "context size",
    "maximum context",
    "too many tokens",
)
NO_TOOLS = ("--jinja", "tool choice requires", "does not support tools", "tools param")

# What an error is called inside of an answer, and the status that it would have had before it.
STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "overloaded_error": 529,
}


class Failure(NamedTuple):
    words: str
    retry_after: float | None = None
    lasting: bool = False


def refused(server: "Server", status: int, kind: str, said: str, headers: Mapping[str, str]) -> Failure:
    """An answer that is an HTTP error. `kind`: what the provider calls it."""
    wait = retry_after(headers)
    who, key = server.who, server.key_name
    lower = f"{kind} {said}".lower()
    if status == 402 or (status in (400, 403, 429) and any(word in lower for word in CREDIT)):
        words = f"no credit is left at {who}: add some to the account of the key in {key}"
        return Failure(words, wait, lasting=wait is None)
    if status == 401:  # without the server's words: some quote parts of the key
        if not server.key:
            return Failure(f"{server.url} wants a key: put it into the environment variable {key}", lasting=True)
        return Failure(f"{who} does not take the key in {key}: put a valid one there", lasting=True)
    if status == 403:
        return Failure(f"the key in {key} may not use {server.model} at {who}: allow it, or use another", lasting=True)
    if status == 404:
        return Failure(
            f"{server.url} knows no model {server.model!r}: choose another (`agent models` lists those with a price), "
            f"or check {server.url_name}",
            lasting=True,
        )
    if 300 <= status < 400:
        where = shortened(headers.get("location", "elsewhere"), 100)
        return Failure(
            f"{server.url} sends requests on to {where}; the key stays here: check {server.url_name}", wait, True
        )
    if any(word in lower for word in NO_TOOLS):
        words = f"{server.url} takes no tools: set tools = false for {server.model} in models.toml"
        return Failure(words + _quoted(said), lasting=True)
    if status < 500 and (status == 413 or any(word in lower for word in TOO_LONG)):
        return Failure(f"the question is too long for {server.model}: lower its context in models.toml{_quoted(said)}")
    if status == 429:
        return Failure(f"{who} wants fewer requests for now{_quoted(said)}", wait)
    if status >= 500:
        return Failure(f"{who} is overloaded or down (status {status}){_quoted(said)}", wait)
    return Failure(f"{who} refuses the request (status {status}){_quoted(said)}", wait)


def of_stream(server: "Server", kind: str, said: str) -> Failure:
    """An error that came after the answer had begun."""
    failure = refused(server, STATUSES.get(kind, 500), kind, said, {})
    return failure._replace(words=f"in the middle of an answer: {failure.words}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from any of the three forms in use; None: nobody said."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) / unit
        except ValueError:
            seconds = _until(text)
        if math.isfinite(seconds):
            return min(max(seconds, 0.0), MOST_WAIT_S)
    return None


def said_of(body: object) -> str:
    """The words of a provider's error."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, Mapping) else inner
        return message if isinstance(message, str) else ""
    return body if isinstance(body, str) else ""


def kind_of(body: object) -> str:
    """What a provider calls its error."""
    if not isinstance(body, Mapping):
        return ""
    inner = body.get("error", body)
    found = [inner.get(name) for name in ("code", "type")] if isinstance(inner, Mapping) else []
    return next((one for one in found if isinstance(one, str)), "")


def shortened(text: str, limit: int = 300) -> str:
    """A stranger's words on one line."""
    one = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * limit]).split())
    return one if len(one) <= limit else one[: limit - 1] + "…"


def _until(text: str) -> float:
    """Seconds until an HTTP date; NaN if it is none."""
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return math.nan


def _quoted(said: str) -> str:
    short = shortened(said)
    return f"; it says: {short}" if short else ""
