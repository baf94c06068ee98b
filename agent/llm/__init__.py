"""Language models: one question, one answer, as records in which no provider's library appears.

A `Model` is one way to ask: `anthropic.py`, `openai.py`, `compatible.py`, `command.py`. It answers once or raises
`ModelError`, which says what may have been billed; asking again, paying and writing down is for `meter.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from agent.errors import PlannerError


@dataclass(frozen=True)
class Tool:
    """Something that the model may ask for."""

    name: str
    description: str
    schema: Mapping[str, object]
    """JSON schema of its arguments, an object."""


@dataclass(frozen=True)
class Part:
    """A piece of a prompt. `stable`: what ends here will be asked again, so a cache is worth its price."""

    text: str
    stable: bool = False


@dataclass(frozen=True)
class Prompt:
    """What we say."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Call:
    """The model asks for a tool. `arguments` is text where it was no JSON object."""

    id: str
    name: str
    arguments: Mapping[str, object] | str


@dataclass(frozen=True)
class Said:
    """What the model said."""

    text: str
    calls: tuple[Call, ...] = ()
    raw: object = None
    """The provider's own form of it, as JSON values: it goes back as it came (signed thinking, for one)."""


@dataclass(frozen=True)
class Result:
    """What a tool answered."""

    call_id: str
    text: str
    failed: bool = False


@dataclass(frozen=True)
class Results:
    """One for each call of what the model said last."""

    results: tuple[Result, ...]


Message = Prompt | Said | Results


@dataclass(frozen=True)
class Question:
    """All that a model is sent: it keeps nothing between calls."""

    system: tuple[Part, ...]
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    max_output: int = 8192
    """Tokens, thinking included."""
    schema: Mapping[str, object] | None = None
    """What the answer's text must be, for a model without tools."""


@dataclass(frozen=True)
class Usage:
    """Tokens that are billed. `input` were neither read from a cache nor written to one."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    usd: float | None = None
    """As the provider says it; None: it says nothing."""

    @property
    def asked(self) -> int:
        return self.input + self.cache_read + self.cache_write

    @property
    def tokens(self) -> int:
        return self.asked + self.output


Stop = Literal["end", "tools", "length", "refused"]


@dataclass(frozen=True)
class Answer:
    said: Said
    usage: Usage
    stop: Stop


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens, and when that was read."""

    input: float
    output: float
    cache_read: float
    cache_write: float
    date: str

    def of(self, usage: Usage) -> float:
        return (
            usage.input * self.input
            + usage.cache_read * self.cache_read
            + usage.cache_write * self.cache_write
            + usage.output * self.output
        ) / 1e6


Billed = Literal["nothing", "known", "unknown"]


class ModelError(PlannerError):
    """No answer this time. `billed`: nothing, known (`usage` says how much), unknown (the worst is assumed)."""

    def __init__(
        self,
        words: str,
        *,
        billed: Billed = "nothing",
        usage: Usage | None = None,
        retry_after: float | None = None,
        lasting: bool = False,
    ) -> None:
        super().__init__(words, retry_after=retry_after, lasting=lasting)
        self.billed = billed
        self.usage = usage


class Model(Protocol):
    """One model at one provider. Threads may share it."""

    @property
    def name(self) -> str:
        """As `--planner` spells it: `anthropic:claude-sonnet-4-5`."""

    @property
    def tools(self) -> bool:
        """Whether it can call tools; else its answer's text is all there is."""

    @property
    def price(self) -> Price | None:
        """None: nobody told; it is bounded by calls and tokens."""

    @property
    def takes_cap(self) -> bool:
        """Whether it keeps to the dollars that `ask` gives it and says what it took."""

    @property
    def max_output(self) -> int:
        """Tokens of one answer, at most."""

    def most_input(self, question: Question) -> int:
        """Tokens that the question can't pass, known without asking anybody."""

    def counted(self, question: Question) -> int | None:
        """Its tokens as the provider counts them; None: it doesn't. Raises ModelError."""

    def ask(self, question: Question, usd: float | None) -> Answer:
        """One attempt; nothing is tried again. `usd`: what is set aside, for those that can be told."""
