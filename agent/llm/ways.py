"""How a program is asked: what it is started with, and what its output means. `Plain` is any program.

Takes a `Question` and an `Ended`; gives a `Start` and an `Answer`. `claude.py` and `codex.py` are the presets.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.llm import Answer, ModelError, Question, Said, Usage, spoken
from agent.llm.program import Ended
from agent.llm.values import tokens
from agent.words import line, plain

Json = Mapping[str, object]

MOST_OUT = 2_000_000  # bytes of one reply
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
# For the presets. Who the person is (a key chain is asked by name), proxies, the certificates of a company's proxy.
OURS = ("USER", "LOGNAME", "TMPDIR", *PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")
LASTING = frozenset({400, 401, 403, 404})  # a wrong key, model or question stays wrong
BYTES_A_TOKEN = 2  # English and code have three to four, so this counts too many


@dataclass(frozen=True)
class Start:
    """What the program is started with."""

    argv: tuple[str, ...]
    given: str
    """Its input: a prompt is never an argument, which everybody on the machine could read."""
    most_out: int = MOST_OUT
    env: dict[str, str] = field(default_factory=dict)


class Way(Protocol):
    """One kind of program."""

    @property
    def passes(self) -> Sequence[str]:
        """Names of the variables that it gets, besides PATH, HOME and LANG."""

    @property
    def takes_cap(self) -> bool: ...

    def most_input(self, question: Question) -> int: ...

    def start(self, question: Question, usd: float | None, files: Path) -> Start:
        """`files`: an empty folder for what it reads from files."""

    def answer(self, question: Question, ended: Ended) -> Answer:
        """From a program that ended by itself, or wrote too much. Raises ModelError."""


@dataclass(frozen=True)
class Plain:
    """Any program: the prompt on its input, the reply on its output, as text.

    Nobody says what it used, so that is estimated from the bytes of both, upwards: two bytes a token. What a program
    asks of a model besides (more calls, thinking) is not seen.
    """

    argv: tuple[str, ...]
    passes: tuple[str, ...] = ()
    takes_cap: bool = False

    def most_input(self, question: Question) -> int:
        return estimate(spoken.whole(question).encode())

    def start(self, question: Question, usd: float | None, files: Path) -> Start:
        most = min(MOST_OUT, BYTES_A_TOKEN * question.max_output)
        return Start(self.argv, spoken.whole(question), most)

    def answer(self, question: Question, ended: Ended) -> Answer:
        usage = Usage(input=self.most_input(question), output=min(estimate(ended.out), question.max_output))
        text = plain(ended.out.decode("utf-8", "replace"), limit=MOST_OUT).strip()
        if ended.cause == "output":
            return Answer(Said(text), usage, "length")
        if ended.rc != 0:
            raise failed(self.argv[0], ended)
        if not text:
            raise ModelError(
                f"{self.argv[0]} ended well but wrote nothing{why(ended)}. It must print its reply.", billed="unknown"
            )
        return Answer(Said(text), usage, "end")


def estimate(data: bytes) -> int:
    """Tokens, rather too many."""
    return -(-len(data) // BYTES_A_TOKEN)


def failed(name: str, ended: Ended, fix: str = "") -> ModelError:
    """It was started, so it may have asked a model already."""
    how = f"ended with exit code {ended.rc}" if (ended.rc or 0) >= 0 else f"was ended by signal {-(ended.rc or 0)}"
    return ModelError(f"{name} {how}{why(ended)}.{fix}", billed="unknown")


def why(ended: Ended) -> str:
    """The last line of its errors, with a colon before it; else the last of its output."""
    for said in (ended.err, ended.out):
        lines = plain(said.decode("utf-8", "replace"), limit=100_000).strip().splitlines()
        if lines:
            return f": {line(lines[-1], 300).rstrip('.')}"
    return ""


def unread(name: str, ended: Ended) -> ModelError:
    if ended.cause == "output":
        return ModelError(f"{name} wrote more than {len(ended.out):,} bytes and was ended.", billed="unknown")
    return ModelError(f"{name} gave no JSON that we know{why(ended)}. Is it another version?", billed="unknown")


def json_object(text: bytes) -> dict[str, object]:
    """Empty where it is no JSON object."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def count(used: object, name: str) -> int:
    return tokens(used, name) if isinstance(used, dict) else 0
