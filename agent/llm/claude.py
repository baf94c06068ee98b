"""The preset `claude -p` (Claude Code 2.1), asked as a model, not as an agent.

Takes a `Question` and what it wrote; gives a `Start` and an `Answer`. It runs without tools, without the person's
hooks, servers and instructions, and keeps no session. tests/test_clis.py holds it against the real program.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.llm import Answer, ModelError, Question, Said, Usage, spoken
from agent.llm.program import Ended
from agent.llm.ways import LASTING, OURS, Json, Start, count, failed, json_object, unread
from agent.words import line

REQUESTS = 4  # where an answer gets too long, it asks on by itself, three times
OVERHEAD = 4_000  # bytes that it adds to a question
MOST_USD = 1e6  # a call can't cost: a report of more is none


@dataclass(frozen=True)
class Claude:
    """`claude -p`: says what it used and what that cost, and takes a cap in dollars.

    It looks at the cap after each request, so the last one may pass it: it is told half of what is set aside.
    """

    program: str
    model: str
    timeout_s: float
    passes: Sequence[str] = (
        *OURS,
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CONFIG_DIR",
    )
    takes_cap: bool = True

    def most_input(self, question: Question) -> int:
        """A token has at least one byte. The output of all requests but one counts as input."""
        asked = len(spoken.whole(question).encode()) + OVERHEAD
        return REQUESTS * asked + (REQUESTS - 1) * question.max_output

    def start(self, question: Question, usd: float | None, files: Path) -> Start:
        system = files / "system.md"
        system.write_text(spoken.system(question) or "Answer the question.", "utf-8")
        argv = [
            self.program,
            "--print",
            *("--output-format", "json"),
            *("--tools", ""),
            *("--permission-mode", "dontAsk"),
            *("--max-turns", "1"),
            *("--system-prompt-file", str(system)),
            "--strict-mcp-config",
            "--safe-mode",
            "--disable-slash-commands",
            "--no-session-persistence",
        ]
        argv += ["--model", self.model] if self.model else []
        argv += ["--json-schema", json.dumps(question.schema)] if question.schema is not None else []
        argv += ["--max-budget-usd", f"{usd / 2:.6f}"] if usd is not None else []
        env = {
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",
            "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(question.max_output),
            "MAX_THINKING_TOKENS": str(question.max_output // 2),
            "API_TIMEOUT_MS": str(round(self.timeout_s * 1000)),
        }
        return Start(tuple(argv), spoken.conversation(question), env=env)

    def answer(self, question: Question, ended: Ended) -> Answer:
        row = json_object(ended.out)
        if row.get("type") != "result":
            fix = " If it does not know an option: npm install -g @anthropic-ai/claude-code installs one that does."
            raise failed("claude", ended, fix) if ended.rc and ended.cause == "exited" else unread("claude", ended)
        usage = _usage(row)
        if row.get("is_error") is False and not usage.asked:  # it says nothing of them
            usage = Usage(self.most_input(question), output=question.max_output, usd=usage.usd)
        text = row.get("result") if isinstance(row.get("result"), str) else ""
        assert isinstance(text, str)
        if row.get("stop_reason") == "refusal":
            return Answer(Said(text), usage, "refused")
        if row.get("is_error") is not False:
            if "output token maximum" in text and row.get("api_error_status") is None:
                return Answer(Said(""), usage, "length")
            raise _error(row, text, usage)
        if question.schema is not None and isinstance(row.get("structured_output"), dict):
            text = json.dumps(row["structured_output"], ensure_ascii=False)
        if not text.strip():
            raise ModelError("claude answered with nothing.", billed="known", usage=usage)
        return Answer(Said(text), usage, "end")


def _usage(row: Json) -> Usage:
    """Of all models that it asked; its `usage` forgets those of a request that passed the cap."""
    models = row.get("modelUsage")
    rows: list[object] = list(models.values()) if isinstance(models, dict) else []
    names = ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens", "outputTokens")
    if not rows:
        rows = [row.get("usage")]
        names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    cost = row.get("total_cost_usd")
    usd = cost if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < MOST_USD else None
    fresh, read, written, output = (sum(count(used, name) for used in rows) for name in names)
    return Usage(fresh, read, written, output, usd)


def _error(row: Json, text: str, usage: Usage) -> ModelError:
    status, kind = row.get("api_error_status"), row.get("subtype")
    errors = row.get("errors")
    said = text or "; ".join(map(str, errors) if isinstance(errors, list) else []) or str(kind)
    words = f"claude: {line(said, 300).rstrip('.')}."
    if kind == "error_max_turns":
        words = "claude: its answer did not fit the schema."
    elif kind == "error_max_budget_usd":
        words += " What is set aside for a call is too little for it."
    elif status in (401, 403) or "/login" in text:
        words += " Set ANTHROPIC_API_KEY, or log in: claude auth login."
    lasting = status in LASTING or "/login" in text
    if usage.tokens:
        return ModelError(words, billed="known", usage=usage, lasting=lasting)
    return ModelError(words, billed="nothing" if isinstance(status, int) or lasting else "unknown", lasting=lasting)
