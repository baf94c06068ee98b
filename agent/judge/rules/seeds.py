"""Signs that a script chooses its luck: several seeds in one run, an end that depends on the loss.

Takes a parsed script; gives `Sign`s. Of several seeds the best may not be kept (the contest says so of
seeds that are found by brute force), and whoever does it in a loop is plain to see.
"""

import ast
import re
from collections.abc import Iterable, Iterator

from agent.judge.rules.flow import LOSS, all_names
from agent.judge.rules.names import Names, Parsed
from agent.judge.rules.signs import Sign

_SEEDERS = (
    "torch.manual_seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all", "random.seed", "numpy.random.seed",
    "numpy.random.default_rng", "random.Random",
)  # fmt: skip
_EXITS = ("sys.exit", "os._exit", "os.abort", "os.kill", "quit", "exit", "os.execv", "os.execve", "os.execvp")

# One training may draw anew at every step, and keep its best checkpoint.
_STEPS = re.compile(r"step|iter|epoch|batch|chunk|layer|micro|rank|shard", re.IGNORECASE)

# Whoever hunts trains or evaluates with each seed. A quantiser that draws rotations and keeps the best does neither.
_TRIES = re.compile(r"train|fit|eval|valid|score|loss|nll|bpb|nats|perplexity|main|backward", re.IGNORECASE)
_IN_PART = re.compile(r"quant|rotat|mse|recon|round|hadamard", re.IGNORECASE)


def signs(parsed: Parsed) -> Iterator[Sign]:
    yield from _seeds(parsed.nodes, parsed.names)
    yield from _ends_by_loss(parsed.nodes, parsed.names)
    yield from _fixed(parsed.nodes, parsed.names)


def _fixed(nodes: Iterable[ast.AST], names: Names) -> Iterator[Sign]:
    """Rule 21: a seed that somebody may have hunted for: with a little noise on top runs differ all the same. In 0
    nobody finds any luck: it says that something is the same for all runs."""
    for node in nodes:
        if isinstance(node, ast.Call) and node.args and _is_seeder(node, names):
            first = node.args[0]
            if isinstance(first, ast.Constant) and type(first.value) is int and first.value:
                words = (
                    f"it draws by a seed of its own, {str(first.value)[:20]}: a run's luck comes from its environment"
                )
                yield Sign(21, "flag", "fixed_seed", words, node.lineno)


def _is_seeder(call: ast.Call, names: Names) -> bool:
    if getattr(call.func, "attr", "") == "manual_seed":
        return True
    name = names.dotted(call.func)
    return name in _SEEDERS or name.endswith("manual_seed")


def _seeds(nodes: Iterable[ast.AST], names: Names) -> Iterator[Sign]:
    """Rule 21: several seeds in one run."""
    for node in nodes:
        if not isinstance(node, ast.For | ast.While):
            continue
        variables = all_names(node.target) if isinstance(node, ast.For) else _counted(node)
        seeded = [
            call
            for call in ast.walk(node)
            if isinstance(call, ast.Call)
            and _is_seeder(call, names)
            and all_names(ast.Tuple([*call.args, *(word.value for word in call.keywords)], ast.Load())) & variables
        ]
        if not seeded:
            continue
        if _keeps_best(node) and _tries(node, names) and not all(map(_STEPS.search, variables)):
            words = "it tries several seeds and keeps the best: a run has one seed, the one in its environment"
            yield Sign(21, "invalid", "seed_hunting", words, node.lineno)
        else:
            yield Sign(21, "flag", "many_seeds", "it uses several seeds in a loop", node.lineno)


def _tries(node: ast.AST, names: Names) -> bool:
    """Whether anything in it is called that trains or evaluates."""
    called = (_last(call, names) for call in ast.walk(node) if isinstance(call, ast.Call))
    return any(_TRIES.search(name) and not _IN_PART.search(name) for name in called)


def _last(call: ast.Call, names: Names) -> str:
    return (names.dotted(call.func) or getattr(call.func, "attr", "")).rsplit(".", 1)[-1]


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
