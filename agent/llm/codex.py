"""The preset `codex exec` (Codex 0.169), asked as a model, not as an agent.

Takes a `Question` and what it wrote; gives a `Start` and an `Answer`. It runs without tools, without the person's
hooks, servers and instructions, and keeps no session. tests/test_clis.py holds it against the real program.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.llm import Answer, ModelError, Question, Said, Usage, spoken
from agent.llm.program import Ended
from agent.llm.ways import LASTING, OURS, Json, Start, count, failed, json_object, unread, why
from agent.words import line

OVERHEAD = 16_000  # bytes that it adds to a question
# What else it would offer to the model, which could read any file of this machine.
TOOLS = (
    "shell_tool",
    "unified_exec",
    "multi_agent",
    "goals",
    "apps",
    "plugins",
    "hooks",
    "view_image",
    "image_generation",
    "browser_use",
    "computer_use",
    "in_app_browser",
    "tool_suggest",
    "skill_search",
    "memories",
)
SETTINGS = (
    'web_search="disabled"',
    "tools.experimental_request_user_input.enabled=false",
    "skills.include_instructions=false",
    "skills.bundled.enabled=false",
    "include_environment_context=false",
    "include_permissions_instructions=false",
    "project_doc_max_bytes=0",
    "analytics.enabled=false",  # else it waits five seconds for them at its end
    "check_for_update_on_startup=false",
    *(f"features.{name}=false" for name in TOOLS),
)
OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Codex:
    """`codex exec`: says what it used, but no price; it takes no cap, of dollars or of output.

    Where no key is set, the login of `codex login` is used, and with it the AGENTS.md beside it, which it always reads.
    """

    program: str
    model: str
    key: str = ""
    """The name of the variable that holds the key."""
    base_url: str = OPENAI
    passes: Sequence[str] = (*OURS, "OPENAI_API_KEY", "CODEX_API_KEY", "CODEX_HOME")
    takes_cap: bool = False

    def most_input(self, question: Question) -> int:
        return len(spoken.whole(question).encode()) + OVERHEAD

    def start(self, question: Question, usd: float | None, files: Path) -> Start:
        system, schema, empty, home = (files / name for name in ("system.md", "schema.json", "empty", "home"))
        system.write_text(spoken.system(question) or "Answer the question.", "utf-8")
        empty.mkdir()
        home.mkdir()
        argv = [self.program, "exec", "--json", "--ephemeral", "--skip-git-repo-check", "--ignore-user-config"]
        argv += ["--ignore-rules", "--color", "never", "--sandbox", "read-only", "--cd", str(empty)]
        argv += ["--model", self.model] if self.model else []
        if question.schema is not None:
            schema.write_text(json.dumps(strict(question.schema)), "utf-8")
            argv += ["--output-schema", str(schema)]
        for setting in (*SETTINGS, f"model_instructions_file={json.dumps(str(system))}", *self._provider()):
            argv += ["-c", setting]
        env = {"CODEX_HOME": str(home)} if self.key else {}
        return Start((*argv, "-"), spoken.conversation(question), env=env)

    def answer(self, question: Question, ended: Ended) -> Answer:
        rows = [json_object(text) for text in ended.out.splitlines()]
        if not any("type" in row for row in rows):
            raise failed("codex", ended) if ended.rc and ended.cause == "exited" else unread("codex", ended)
        usage = next((_usage(row) for row in reversed(rows) if row.get("type") == "turn.completed"), None)
        if usage is not None and not usage.asked:  # it says nothing of them
            usage = Usage(self.most_input(question), output=question.max_output)
        items = [row["item"] for row in rows if row.get("type") == "item.completed"]
        said = [item.get("text") for item in items if isinstance(item, dict) and item.get("type") == "agent_message"]
        text = next((text for text in reversed(said) if isinstance(text, str) and text.strip()), "")
        if usage is None or ended.cause == "output":
            raise _error(rows, ended)
        if ended.rc != 0 or not text:
            words = f"codex answered with nothing{why(ended) if ended.rc else ''}."
            raise ModelError(words, billed="known", usage=usage)
        return Answer(Said(text), usage, "end")

    def _provider(self) -> list[str]:
        """One that never asks again by itself, where there is a key; the built-in one can't be told so."""
        if not self.key and self.base_url == OPENAI:
            return []
        fields = {
            "name": '"caddie"',
            "base_url": json.dumps(self.base_url),
            "wire_api": '"responses"',
            "request_max_retries": "0",
            "stream_max_retries": "0",
            "supports_websockets": "false",
            **({"env_key": json.dumps(self.key)} if self.key else {"requires_openai_auth": "true"}),
        }
        inline = ",".join(f"{name}={value}" for name, value in fields.items())
        return ['model_provider="caddie"', f"model_providers.caddie={{{inline}}}"]


def strict(schema: object) -> object:
    """As OpenAI's strict mode wants it: every field is required, none is added, no default, no length of a text."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: value for name, value in schema.items() if name not in ("default", "minLength", "maxLength")}
    fields = kept.get("properties")
    made = {name: strict(value) for name, value in kept.items() if name not in ("properties", "$defs", "enum")}
    for name in ("properties", "$defs"):  # their names are anybody's, a field may be called `default`
        if isinstance(kept.get(name), dict):
            made[name] = {field: strict(value) for field, value in kept[name].items()}
    if "enum" in kept:
        made["enum"] = kept["enum"]
    if isinstance(fields, dict):
        made |= {"required": list(fields), "additionalProperties": False}
    return made


def _usage(row: Json) -> Usage:
    used = row.get("usage")
    read, written = count(used, "cached_input_tokens"), count(used, "cache_write_input_tokens")
    fresh = max(0, count(used, "input_tokens") - read - written)
    return Usage(fresh, read, written, count(used, "output_tokens"))


def _error(rows: Sequence[Json], ended: Ended) -> ModelError:
    told = [row.get("error") if row.get("type") == "turn.failed" else row for row in rows if "item" not in row]
    said = [one["message"] for one in told if isinstance(one, dict) and isinstance(one.get("message"), str)]
    if not said:
        return failed("codex", ended) if ended.cause == "exited" else unread("codex", ended)
    words = said[-1]
    status = next((code for code in (*LASTING, 429) if f"status {code}" in words or f"status: {code}" in words), None)
    refused = json_object(words.encode("utf-8", "replace")).get("error")
    if isinstance(refused, dict) and isinstance(refused.get("message"), str):  # so it tells of a 400, and of no other
        words, status = refused["message"], 400
    fix = " Set OPENAI_API_KEY, or log in: codex login." if status in (401, 403) else ""
    return ModelError(
        f"codex: {line(words, 300).rstrip('.')}.{fix}",
        billed="unknown" if status is None else "nothing",
        lasting=status in LASTING,
    )
