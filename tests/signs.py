"""The signs of broken rules that are seen in a script's text, for the tests of what looks for them."""

import textwrap

from agent.judge.rules import static


def told(text: str) -> list[tuple[int, str, str]]:
    return [(one.rule, one.severity, one.name) for one in static.of_text(textwrap.dedent(text))]
