"""Models that ask a stand-in server, one for each wire, and a question for them."""

from typing import Any

from agent.llm import Model, Part, Price, Prompt, Question, Tool
from agent.llm.anthropic import Anthropic
from agent.llm.compatible import Compatible
from agent.llm.openai import OpenAI
from agent.llm.wire import Server

WIRES = ("messages", "responses", "chat")
KEY = "sk-test-0123456789abcdef"
PRICE = Price(3.0, 15.0, 0.3, 3.75, "2025-11")
FIND = Tool("find", "Finds a run.", {"type": "object", "properties": {"run": {"type": "string"}}})
QUESTION = Question(
    (Part("You are careful.", stable=True), Part("Be short.")), (Prompt((Part("What now?"),)),), (FIND,), 4096
)


def model(wire: str, url: str, server: dict[str, Any] | None = None, **more: Any) -> Model:
    """`server`: fields of `Server` that differ; `more`: of the model."""
    where = {"model": "m-1", "key": KEY, "key_name": "THE_KEY", "url_name": "THE_URL", **(server or {})}
    if wire == "messages":
        made = Server(**{"provider": "anthropic", "base_url": url, **where})
        return Anthropic(made, PRICE, 8192, **more)
    if wire == "responses":
        made = Server(**{"provider": "openai", "base_url": f"{url}/v1", **where})
        return OpenAI(made, PRICE, 8192, **more)
    made = Server(**{"provider": "openai-compatible", "base_url": f"{url}/v1", **where})
    return Compatible(made, PRICE, 8192, **more)
