"""Signs that a script chooses its luck: several seeds in one run, an end that depends on the loss.

Takes a parsed script; gives `Sign`s. Of several seeds the best may not be kept (the contest says so of
seeds that are found by brute force), and whoever does it in a loop is plain to see.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from agent.judge.rules.constants import folded
from agent.judge.rules.flow import LOSS, all_names
from agent.judge.rules.names import Names, Parsed, Statement, bound_in
from agent.judge.rules.signs import Sign

_SEEDERS = (
    "torch.manual_seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all", "random.seed", "numpy.random.seed",
    "numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.SeedSequence", "numpy.random.PCG64",
    "numpy.random.MT19937", "numpy.random.Philox", "numpy.random.SFC64", "random.Random", "jax.random.PRNGKey",
    "jax.random.key",
)  # fmt: skip
_SEED_WORDS = re.compile(rb"seed|Random|default_rng|SeedSequence|PCG64|MT19937|Philox|SFC64|PRNGKey|random\.key")
_METHODS = ("manual_seed", "seed")
_LAST = {name.rsplit(".", 1)[-1] for name in _SEEDERS}
_EXITS = ("sys.exit", "os._exit", "os.abort", "os.kill", "quit", "exit", "os.execv", "os.execve", "os.execvp")

# One training may draw anew at every step, and keep its best checkpoint.
_STEPS = re.compile(r"step|iter|epoch|batch|chunk|layer|micro|rank|shard", re.IGNORECASE)

# Whoever hunts trains or evaluates with each seed. A quantiser that draws rotations and keeps the best does neither.
_TRIES = re.compile(r"train|fit|eval|valid|score|loss|nll|bpb|nats|perplexity|main|backward", re.IGNORECASE)
_IN_PART = re.compile(r"quant|rotat|mse|recon|round|hadamard", re.IGNORECASE)


_BEST_OF = frozenset(("min", "max", "sorted", "nsmallest", "nlargest", "argmin", "argmax", "nanargmin"))
_Loop = ast.For | ast.While
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_Defined = ast.FunctionDef | ast.AsyncFunctionDef


class Function(NamedTuple):
    name: str
    seeds: bool
    """By one of its arguments."""
    tries: bool
    """It trains or evaluates."""
    passes: frozenset[str]
    """Functions that it gives an argument to."""


class Loop(NamedTuple):
    """Whatever does the same for several values."""

    line: int
    seeds: bool
    tries: bool
    passes: frozenset[str]
    """Functions that are given the value."""
    best: bool
    """It keeps the best."""
    steps: bool
    kept: frozenset[str] = frozenset()
    """What its values are bound to."""


class Seeding(NamedTuple):
    """What a statement does with seeds; which of it is a sign may be told by others."""

    functions: tuple[Function, ...]
    loops: tuple[Loop, ...]
    compared: frozenset[str]
    """Names of which the best is taken."""
    drawn_by: tuple[tuple[frozenset[str], int], ...]
    """Names that something is seeded by, and the line."""


def signs(parsed: Parsed) -> Iterator[Sign]:
    yield from _ends_by_loss(parsed.nodes, parsed.names)
    for argument in _arguments(parsed) if _may_seed(parsed) else ():
        value = folded(argument)
        if value:
            yield _fixed(value, argument.lineno)


def _fixed(value: object, line: int) -> Sign:
    """Rule 21: a seed that somebody may have hunted for: with a little noise on top runs differ all the same. In 0
    nobody finds any luck: it says that something is the same for all runs."""
    words = f"it draws by a seed of its own, {str(value)[:20]}: a run's luck comes from its environment"
    return Sign(21, "flag", "fixed_seed", words, line)


def _arguments(parsed: Parsed) -> Iterator[ast.expr]:
    """What is seeded by."""
    for node in parsed.nodes:
        if isinstance(node, ast.Call) and _is_seeder(node, parsed.names):
            first = node.args[0] if node.args else next((one.value for one in node.keywords), None)
            if first is not None:
                yield first.elts[0] if isinstance(first, ast.List | ast.Tuple) and first.elts else first


def seeding(parsed: Parsed, by: int = 0) -> Seeding:
    """`by`: what its lines are moved by."""
    names, functions, loops, compared = parsed.names, list[Function](), list[Loop](), set[str]()
    kept = {
        node.value: all_names(ast.Tuple(node.targets, ast.Store()))
        for node in parsed.nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, _Comprehension)
    }
    within_best, likely = set[ast.AST](), _may_seed(parsed)
    for node in parsed.nodes:
        if isinstance(node, _Defined):
            given = {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
            given |= _made_of(node, given) if likely else set()
            functions.append(Function(node.name, *_does(node, given, names)))
        elif isinstance(node, _Loop):
            variables = all_names(node.target) if isinstance(node, ast.For) else _counted(node)
            found = _loop(node, variables, names, best=False)
            if found.seeds or (found.passes and not found.steps):
                loops.append(found._replace(best=_keeps_best(node)))
        elif isinstance(node, _Comprehension):
            variables = {name for one in node.generators for name in all_names(one.target)}
            found = _loop(node, variables, names, best=node in within_best)
            loops.append(found._replace(kept=frozenset(kept.get(node, ()))))
        elif isinstance(node, ast.Call) and _last(node, names) in _BEST_OF:
            within_best.update(node.args)
            for argument in node.args:
                compared |= {argument.id} if isinstance(argument, ast.Name) else set()
            loops += _applied(node, names)
    arguments = _arguments(parsed) if likely else ()
    drawn_by = [(frozenset(all_names(one)), one.lineno + by) for one in arguments if _is_of_names(one)]
    return Seeding(
        tuple(functions),
        tuple(
            one._replace(line=one.line + by) for one in loops if one.seeds or (one.passes and (one.best or one.kept))
        ),
        frozenset(compared),
        tuple(drawn_by),
    )


def _may_seed(parsed: Parsed) -> bool:
    """Without looking at its tree. Other letters than those of ASCII may be read as these."""
    texts = (one.text for one in parsed.statements)
    return any(not text.isascii() or _SEED_WORDS.search(text) for text in texts) or any(
        name in _SEEDERS for name in parsed.names.bound.values()
    )


def _is_of_names(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) or (
        isinstance(node, ast.BinOp)
        and all(
            isinstance(one, ast.Name | ast.Constant | ast.operator | ast.expr_context)
            for one in list(ast.walk(node))[1:]
        )
    )


def _applied(call: ast.Call, names: Names) -> Iterator[Loop]:
    """min(seeds, key=run), min(map(run, seeds))."""
    applied = [one.value for one in call.keywords if one.arg == "key"]
    applied += [
        one.args[0] for one in call.args if isinstance(one, ast.Call) and _last(one, names) == "map" and one.args
    ]
    for one in applied:
        if isinstance(one, ast.Name):
            yield Loop(call.lineno, False, False, frozenset((one.id,)), True, False)
        elif isinstance(one, ast.Lambda):
            given = {argument.arg for argument in one.args.args}
            yield _loop(one, given, names, best=True)


def _loop(node: ast.AST, variables: set[str], names: Names, *, best: bool) -> Loop:
    steps = bool(variables) and all(map(_STEPS.search, variables))
    seeds, tries, passes = _does(node, variables, names)
    return Loop(getattr(node, "lineno", 0), seeds, tries, passes, best, steps)


def _does(node: ast.AST, variables: set[str], names: Names) -> tuple[bool, bool, frozenset[str]]:
    """Whether it seeds by one of these, trains or evaluates, and what else it calls with them."""
    seeds, passes, tries = False, set[str](), False
    for call in ast.walk(node):
        if not isinstance(call, ast.Call):
            continue
        name = _last(call, names)
        tries = tries or bool(_TRIES.search(name) and not _IN_PART.search(name))
        if isinstance(call.func, ast.Name) and call.func.id not in passes and _given(call, variables):
            passes.add(call.func.id)
        if not seeds and _is_seeder(call, names):
            seeds = _given(call, variables)
    return seeds, tries, frozenset(passes)


def _given(call: ast.Call, variables: set[str]) -> bool:
    values = (*call.args, *(word.value for word in call.keywords))
    return any(isinstance(one, ast.Name) and one.id in variables for one in values) or any(
        not isinstance(one, ast.Name | ast.Constant) and not variables.isdisjoint(all_names(one)) for one in values
    )


def _made_of(node: ast.AST, given: set[str]) -> set[str]:
    return {
        target.id
        for one in ast.walk(node)
        if isinstance(one, ast.Assign) and all_names(one.value) & given
        for target in one.targets
        if isinstance(target, ast.Name)
    }


def together(found: Sequence[tuple[Seeding, int]], statements: Collection[Statement]) -> Iterator[Sign]:
    """Rule 21: several seeds in one run, wherever a function that seeds by its argument stands; and fixed seeds by
    name. With each the line that its own lines count from."""
    bound = bound_in(statements) if any(one.drawn_by for one, _ in found) else {}
    fixed = {name: next(filter(None, values), None) for name, values in bound.items() if None not in values}
    for one, line in found:
        for names, at in one.drawn_by:
            values = [fixed[name] for name in sorted(names) if name in fixed]
            if len(values) == len(names) and any(values):
                yield _fixed(next(filter(None, values)), line + at)
    if not any(one.loops for one, _ in found):
        return
    functions = [function for one, _ in found for function in one.functions]
    seeders = _all_that(functions, {one.name for one in functions if one.seeds})
    hunters = _all_that(functions, {one.name for one in functions if one.name in seeders and one.tries}) & seeders
    compared = {name for one, _ in found for name in one.compared}
    for one, line in found:
        for loop in one.loops:
            if loop.seeds or loop.passes & seeders:
                best = loop.best or bool(loop.kept & compared)
                tries = (loop.seeds and loop.tries) or bool(loop.passes & hunters)
                yield from _several(loop, line, hunts=best and tries and not loop.steps)


def _several(loop: Loop, line: int, *, hunts: bool) -> Iterator[Sign]:
    if hunts:
        words = "it tries several seeds and keeps the best: a run has one seed, the one in its environment"
        yield Sign(21, "invalid", "seed_hunting", words, line + loop.line)
    elif loop.seeds or not loop.steps:  # at every step a function may draw anew
        yield Sign(21, "flag", "many_seeds", "it uses several seeds in a loop", line + loop.line)


def _all_that(functions: Iterable[Function], known: set[str]) -> set[str]:
    """With all that give them an argument of theirs, and so on."""
    givers = defaultdict[str, list[str]](list)
    for one in functions:
        for name in one.passes:
            givers[name].append(one.name)
    found, left = set(known), list(known)
    while left:
        new = set(givers[left.pop()]) - found
        found |= new
        left += new
    return found


def _is_seeder(call: ast.Call, names: Names) -> bool:
    if (last := _last(call, names)) in _METHODS:
        return isinstance(call.func, ast.Attribute) or names.dotted(call.func) in _SEEDERS
    return last in _LAST and names.dotted(call.func) in _SEEDERS


def _last(call: ast.Call, names: Names) -> str:
    """The last part of what it calls."""
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return names.bound.get(function.id, function.id).rsplit(".", 1)[-1] if isinstance(function, ast.Name) else ""


def _counted(loop: ast.While) -> set[str]:
    return {
        one.target.id for one in ast.walk(loop) if isinstance(one, ast.AugAssign) and isinstance(one.target, ast.Name)
    }


def _keeps_best(loop: ast.For | ast.While) -> bool:
    """A comparison of losses that keeps something, or a minimum over them."""
    for node in ast.walk(loop):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Compare):
            if not isinstance(node.test.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                continue
            compared = ast.unparse(node.test)[:200]
            kept = any(isinstance(inner, ast.Assign) for one in node.body for inner in ast.walk(one))
            if kept and (LOSS.search(compared) or "best" in compared):
                return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "min":
            compared = " ".join(ast.unparse(argument)[:80] for argument in node.args)
            if LOSS.search(compared) or "best" in compared:
                return True
    return False


def _ends_by_loss(nodes: Iterable[ast.AST], names: Names) -> Iterator[Sign]:
    """Rule 21: a run that ends itself where its seed was unlucky."""
    for node in nodes:
        if not (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Compare)
            and LOSS.search(ast.unparse(node.test)[:200])
        ):
            continue
        if not isinstance(node.test.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
            continue
        for call in (part for one in node.body for part in ast.walk(one) if isinstance(part, ast.Call)):
            if names.dotted(call.func) in _EXITS:
                yield Sign(
                    21, "flag", "ends_by_loss", "it ends itself depending on its loss: every run counts", call.lineno
                )
