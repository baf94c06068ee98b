"""Any program as a model: the prompt on its input, the reply on its output. `make` reads what follows `command:`.

Takes a `Question`; gives an `Answer`. `claude[:MODEL]` and `codex[:MODEL]` are presets; anything else is a command
line, split as a shell would split it, but no shell runs it. It works in an empty folder, with few variables.
"""

import contextlib
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.errors import UserError
from agent.llm import Answer, ModelError, Price, Question, Said, program
from agent.llm.claude import Claude
from agent.llm.codex import OPENAI, Codex
from agent.llm.program import Ended, HolderFailed
from agent.llm.redact import GONE, Redactor
from agent.llm.values import clean_text
from agent.llm.ways import Plain, Way
from agent.words import line

TIMEOUT_S = 600.0
MOST_OUTPUT = 32_000
ALWAYS = ("PATH", "HOME", "LANG")
INSTALL = {
    "claude": "npm install -g @anthropic-ai/claude-code, then `claude auth login` or ANTHROPIC_API_KEY",
    "codex": "npm install -g @openai/codex, then `codex login` or OPENAI_API_KEY",
}


@dataclass(frozen=True)
class Command:
    """A program that is asked once for each question and keeps nothing."""

    name: str
    way: Way
    env: Mapping[str, str] = field(repr=False)
    """All that it gets."""
    secrets: tuple[str, ...] = field(repr=False)
    """What must not be seen in anything that it says."""
    timeout_s: float = TIMEOUT_S
    max_output: int = MOST_OUTPUT
    price: Price | None = None
    tools: bool = False

    @property
    def takes_cap(self) -> bool:
        return self.way.takes_cap

    def most_input(self, question: Question) -> int:
        """An estimate, where the program doesn't say what it used: it is billed by the same estimate."""
        return self.way.most_input(question)

    def counted(self, question: Question) -> int | None:
        return None

    def ask(self, question: Question, usd: float | None) -> Answer:
        question = replace(question, max_output=min(question.max_output, self.max_output))
        ended = self._run(question, usd)
        if ended.cause == "unstarted":
            words = f"{self.name} can't be started: {ended.words}. Check that it is there and executable."
            raise ModelError(words, billed="nothing", lasting=True)
        if ended.cause == "time":
            raise ModelError(f"{self.name} gave no answer within {self.timeout_s:.0f} s.", billed="unknown")
        answer = self.way.answer(question, ended)
        return replace(answer, said=Said(clean_text(answer.said.text)))

    def _run(self, question: Question, usd: float | None) -> Ended:
        try:
            with tempfile.TemporaryDirectory(prefix="caddie-", ignore_cleanup_errors=True) as made:
                cwd, files = Path(made, "empty"), Path(made, "files")
                cwd.mkdir()
                files.mkdir()
                start = self.way.start(question, usd, files)
                ended = program.run(
                    start.argv,
                    given=start.given.encode("utf-8", "replace"),
                    cwd=cwd,
                    env={**self.env, **start.env},
                    seconds=self.timeout_s,
                    most_out=start.most_out,
                )
        except HolderFailed as error:
            words = line(self._hidden(str(error).encode()).decode("utf-8", "replace"), 300)
            raise ModelError(f"{self.name}: what started it failed: {words}", billed="unknown") from None
        except OSError as error:
            words = f"{self.name} can't be started: {error.strerror}. Make room in the temporary folder."
            raise ModelError(words, billed="nothing") from error
        return replace(ended, out=self._hidden(ended.out), err=self._hidden(ended.err))

    def _hidden(self, said: bytes) -> bytes:
        for secret in self.secrets:
            said = said.replace(secret.encode("utf-8", "surrogateescape"), GONE.encode())
        return said


def make(
    argument: str,
    *,
    workspace: Path,
    environ: Mapping[str, str],
    timeout_s: float = TIMEOUT_S,
    max_output: int = MOST_OUTPUT,
    price: Price | None = None,
) -> Command:
    """The program of `command:ARGUMENT`. Words that name a file of the workspace are taken for that file.

    Raises UserError.
    """
    name, _, model = argument.partition(":")
    if name in INSTALL:
        way = _preset(name, model, environ, timeout_s)
    else:
        way = _plain(argument, workspace, environ)
    names = {*ALWAYS, *way.passes}
    return Command(
        name=f"command:{argument}",
        way=way,
        env={**{name: environ[name] for name in names if name in environ}, "TERM": "dumb"},
        secrets=Redactor.of(environ).secrets,
        timeout_s=timeout_s,
        max_output=max_output,
        price=price,
    )


def _preset(name: str, model: str, environ: Mapping[str, str], timeout_s: float) -> Way:
    found = shutil.which(name, path=environ.get("PATH", ""))
    if found is None:
        raise UserError(f"command:{name} needs {name}, which is not on PATH. To install it: {INSTALL[name]}.")
    if name == "claude":
        return Claude(found, model, timeout_s)
    key = next((key for key in ("OPENAI_API_KEY", "CODEX_API_KEY") if environ.get(key)), "")
    return Codex(found, model, key, environ.get("OPENAI_BASE_URL") or OPENAI)


def _plain(argument: str, workspace: Path, environ: Mapping[str, str]) -> Way:
    try:
        words = shlex.split(argument)
    except ValueError as error:
        raise UserError(f"command:{argument} can't be split into words: {error}.") from error
    if not words:
        raise UserError("command: needs a program: command:claude, command:codex or command:./ask.sh --fast")
    program_at, *rest = words
    words = [
        _placed(program_at, workspace) if "/" in program_at else program_at,
        *(_placed(word, workspace) for word in rest),
    ]
    found = shutil.which(words[0], path=environ.get("PATH", ""))
    if found is None:
        if Path(words[0]).is_file():
            raise UserError(f"command:{argument}: {words[0]} is not executable. To mend it: chmod +x {words[0]}")
        where = "there" if "/" in words[0] else "on PATH"
        raise UserError(f"command:{argument}: {words[0]} is not {where}. Install it, or give its path.")
    return Plain((found, *words[1:]))


def _placed(word: str, workspace: Path) -> str:
    """It will run in another folder."""
    with contextlib.suppress(OSError, ValueError):  # a word that is no path
        if word and not Path(word).is_absolute() and (workspace / word).is_file():
            return str((workspace / word).resolve())
    return word
