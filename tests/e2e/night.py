"""What a language model says in a night of research, and what it is allowed to cost."""

from agent.llm import Call, Usage
from agent.planner.edits import make_edits
from tests.e2e import world
from tests.standin_wires import Reply

KEY = "sk-test-0123456789abcdefghijklmn"
MODELS = """
[limits]
parallel = 1
lessons = false

[{provider}."stand-in"]
input = 3.0
output = 15.0
cache_read = 0.3
cache_write = 3.75
date = "2025-11"
context = 200_000
max_output = 16_000
"""
USED = Usage(input=1000, cache_read=4000, output=200)


def edits(*changes: tuple[str, str]) -> str:
    after = world.SCRIPT
    for old, new in changes:
        assert old in after
        after = after.replace(old, new)
    return make_edits("train.py", world.SCRIPT, after)


def proposes(title: str, *changes: tuple[str, str], **fields: object) -> Reply:
    return calls(
        (
            "propose",
            {"title": title, "hypothesis": f"{title} helps", "edits": edits(*changes), "kind": "knob", **fields},
        )
    )


def calls(*made: tuple[str, dict[str, object] | str]) -> Reply:
    return Reply(
        text="Let me see.",
        calls=tuple(Call(f"call_{n}", name, arguments) for n, (name, arguments) in enumerate(made)),
        usage=USED,
    )


WIDER = ('"width": 4', '"width": 8')
FASTER = ('"rate": 0.10', '"rate": 0.20')
NIGHT = [
    # The first idea: it looks around, tries its edit, proposes.
    calls(("query", {"sql": "SELECT title FROM proposals"}), ("read_script", {})),
    calls(("check_edits", {"edits": edits(WIDER)})),
    proposes("wider", WIDER, expected_gain=0.1, confidence=0.7, evidence=["r1"], expected_step=1.5, expected_bytes=900),
    # The second: its edit does not apply, and is mended.
    calls(("propose", {"title": "a better rate", "edits": "train.py\n<<<<<<< SEARCH\nrate\n=======\n>>>>>>> REPLACE"})),
    proposes("a better rate", FASTER),
    # The third never learns.
    *[proposes("wider again", WIDER)] * 4,
]
