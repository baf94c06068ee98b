"""The model of providers' caches: what is kept, from which length on, for how long, and how far it is looked for."""

from agent.llm import Part
from benchmarks.prompt_caches import Breakpoints, Call, Prefixes, share

RULES, SCRIPT = Part("rule " * 1500, stable=True), Part("line " * 3000, stable=True)


def call(at: float, *parts: Part, first: bool = True) -> Call:
    return Call(at, first, parts)


def test_a_prefix_is_read_until_it_expires_and_use_keeps_it() -> None:
    cache = Breakpoints(1024)
    ends = [Part(f"end {n}") for n in range(9)]
    assert cache.read(call(0, RULES, SCRIPT, ends[0])) == 0
    whole = call(0, RULES, SCRIPT).tokens[-1]
    assert cache.read(call(1, RULES, SCRIPT, ends[1])) == 0  # nothing is there before the first answer begins
    assert cache.read(call(200, RULES, SCRIPT, ends[2])) == whole
    assert cache.read(call(499, RULES, SCRIPT, ends[3])) == whole
    assert cache.read(call(800, RULES, SCRIPT, ends[4])) == 0
    assert cache.read(call(900, RULES, SCRIPT, ends[5])) == whole  # written anew
    assert cache.read(call(901, RULES, Part("another", stable=True), ends[6])) == call(0, RULES).tokens[0]


def test_what_is_short_is_not_kept() -> None:
    cache = Breakpoints(4096)
    for at in (0.0, 10.0):
        assert cache.read(call(at, RULES, Part("end"))) == 0
    assert Breakpoints(1024).read(call(0, RULES)) == 0
    prefixes = Prefixes()
    assert [prefixes.read(call(at, Part("word " * 500))) for at in (0.0, 10.0)] == [0, 0]


def test_a_breakpoint_looks_back_twenty_blocks() -> None:
    for more, found in ((19, True), (20, False)):
        cache = Breakpoints(1024)
        cache.read(call(0, RULES))
        blocks = [Part(f"turn {n}") for n in range(more)]
        unmarked = Part(RULES.text)
        assert (cache.read(call(10, unmarked, *blocks)) > 0) == found


def test_prefixes_count_in_steps_and_reach_into_a_block() -> None:
    cache = Prefixes()
    cache.read(call(0, RULES, Part("a b c d " * 400 + "x")))
    found = cache.read(call(10, RULES, Part("a b c d " * 400 + "y")))
    assert found % 128 == 0
    assert call(0, RULES).tokens[0] + 1200 < found < call(0, RULES).tokens[0] + 1800
    assert cache.read(call(311, RULES)) == 0


def test_shares_tell_apart_what_could_not_be_there_any_more() -> None:
    calls = [call(0, RULES, SCRIPT), call(10, RULES, SCRIPT, first=False), call(1000, RULES, SCRIPT)]
    found = share(Breakpoints(1024), calls)
    assert (found.all_calls, found.within, found.first, found.first_within) == (1 / 3, 1.0, 0.0, 0.0)
