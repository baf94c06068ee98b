"""JSON values that pass between a model and us, and what can be said of them without asking anybody.

Takes what a provider sent, or what it will be sent; gives it clean, counted, or as words.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

MOST_DEPTH = 64
MARGIN = 2048  # tokens that a provider puts around what it is sent, for tools above all
MOST_TOKENS = 1e9  # of one call: nobody reads so many, so a report of more is none


def most_tokens(body: object) -> int:
    """No token is shorter than a byte."""
    return len(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")) + MARGIN


def utf8(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def arguments(text: str) -> Mapping[str, object] | str:
    """A tool's arguments as the model wrote them: an object, or the text if it is none."""
    try:
        found = clean(json.loads(text or "{}", parse_constant=_no_constant))
    except (ValueError, RecursionError):
        return clean_text(text)
    return found if isinstance(found, dict) else clean_text(text)


def schema_words(schema: Mapping[str, object]) -> str:
    """The schema as an instruction, for whoever can't be held to it otherwise."""
    return "Answer with one JSON object and nothing else. Its JSON schema:\n" + json.dumps(schema, ensure_ascii=False)


def is_strict(schema: object) -> bool:
    """Whether OpenAI's strict mode takes it: every object closed, all its properties required."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object":
        named = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(named):
            return False
        return all(map(is_strict, named.values()))
    return all(map(is_strict, schema.values()))


def clean(value: object, depth: int = MOST_DEPTH) -> Any:
    """JSON that can be written down and sent again: no halves of characters, nothing too deep."""
    if isinstance(value, str):
        return clean_text(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if not depth:
        raise ValueError(f"nested more than {MOST_DEPTH} deep")
    if isinstance(value, Mapping):
        return {clean_text(str(key)): clean(item, depth - 1) for key, item in value.items()}
    return [clean(item, depth - 1) for item in value]


def clean_text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def tokens(usage: Mapping[str, Any], *path: str) -> int:
    """A count in a provider's report; 0 where it says none, or none that can be one."""
    value: Any = usage
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_TOKENS:
        return 0
    return math.ceil(value)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
