"""Small programs that are asked as models, and their surroundings."""

import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from agent.llm import ModelError, Part, Prompt, Question, command
from agent.llm.claude import Claude
from agent.llm.codex import Codex
from agent.llm.command import Command

KEY = "sk-a-secret-of-the-person"
ASKED = Question(system=(Part("You are a poet."),), messages=(Prompt((Part("A line, "), Part("please."))),))
IN_JSON = Question(ASKED.system, ASKED.messages, schema={"type": "object", "properties": {"line": {"type": "string"}}})
CLAUDE = Claude("claude", "some-model", 60.0)
CODEX = Codex("codex", "some-model")


def environ(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "SOME_API_KEY": KEY, "OTHER": "unseen", **more}


def script(folder: Path, text: str, name: str = "ask", mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(text)}")
    path.chmod(mode)
    return path


def program(folder: Path, text: str, **limits: Any) -> Command:
    script(folder, text)
    return command.make("./ask", workspace=folder, environ=environ(), **limits)


def fails(model: Command, question: Question = ASKED) -> ModelError:
    with pytest.raises(ModelError) as caught:
        model.ask(question, None)
    return caught.value
