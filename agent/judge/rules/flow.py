"""Signs that need to know what is done with a value: validation tokens that are learnt from, targets that steer.

Takes a parsed script; gives `Sign`s. Each function is looked at by itself, and a value is known by the
name it has there: a reader's heuristics, which a determined cheat gets around. They never accuse.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent.judge.rules.names import Names, Parsed
from agent.judge.rules.signs import Sign

_VALIDATION = re.compile(r"(?:^|_)(?:val|valid|validation)(?:_|$)", re.IGNORECASE)
# Names of settings and of results; tokens have others.
_NO_TOKENS = re.compile(
    r"loss|bpb|nll|every|freq|interval|step|batch_size|batch_tokens|time|_ms|count|bytes|path|files?$|pattern|dir$|bits|score",
    re.IGNORECASE,
)
_VALIDATION_FILES = re.compile(r"(?:^|[/_.*-])val(?:idation)?(?:[/_.*-]|$)", re.IGNORECASE)
_TARGETS = frozenset(("targets", "target", "y", "labels", "label", "tgt", "tgt_ids", "target_ids", "next_tokens"))
_GATE = re.compile(r"gate|tilt|boost|mix|blend|alpha|lambda|lam_|logit|prob|logp|bias", re.IGNORECASE)
LOSS = re.compile(r"loss|nll|bpb|bits|ce$|score", re.IGNORECASE)
_EPOCHS = re.compile(r"epoch|pass|round|repeat|sweep", re.IGNORECASE)
_SCORES = re.compile(r"eval|val|score|slot|test_time|ttt", re.IGNORECASE)
_TRAINS = re.compile(r"train|fit|learn|calib|build|quanti[sz]e|compress|pack|export", re.IGNORECASE)
_READS = (
    "open",
    "numpy.fromfile",
    "np.fromfile",
    "numpy.memmap",
    "np.memmap",
    "glob.glob",
    "torch.load",
    "pathlib.Path",
)
_READ_METHODS = ("read_text", "read_bytes", "glob", "rglob", "open")

Function = ast.FunctionDef | ast.AsyncFunctionDef
LEAST_SLICE = 1_000  # tokens: a slice of fewer is no part of the validation set that is meant to be scored


@dataclass(frozen=True)
class _Scope:
    """A function, or what stands at module level, and which names hold validation tokens there."""

    name: str
    nodes: tuple[ast.AST, ...]
    tainted: frozenset[str]


def alone(parsed: Parsed) -> Iterator[Sign]:
    """What no other statement at module level has a say in."""
    names = parsed.names
    for node in parsed.nodes:
        if isinstance(node, Function):
            nodes = tuple(_inside(node))
            arguments = {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
            scope = _Scope(node.name, nodes, _tainted(nodes, arguments))
            yield from _reads(scope, names)
            yield from _of_validation(scope, names)
            yield from _by_itself(scope, names)
    yield from _by_itself(_Scope("", _outside(parsed), frozenset()), names)


def together(parsed: Parsed) -> Iterator[Sign]:
    """What all statements outside of functions and classes do with validation tokens: one may load, the next learn."""
    nodes = _outside(parsed)
    yield from _of_validation(_Scope("", nodes, _tainted(nodes, set())), parsed.names)


def names_validation(parsed: Parsed) -> bool:
    """Whether anything outside of functions and classes is called so, without which `together` finds nothing."""
    return any(_reads_validation(one, frozenset()) for one in _top(parsed))


def _of_validation(scope: _Scope, names: Names) -> Iterator[Sign]:
    yield from _learns(scope, names)
    yield from _subset(scope)


def _by_itself(scope: _Scope, names: Names) -> Iterator[Sign]:
    yield from _lower_of_two(scope, names)
    yield from _target_gate(scope, names)


def _outside(parsed: Parsed) -> tuple[ast.AST, ...]:
    return tuple(node for statement in _top(parsed) for node in ast.walk(statement))


def _top(parsed: Parsed) -> list[ast.stmt]:
    return [one.node for one in parsed.statements if not isinstance(one.node, Function | ast.ClassDef)]


def _inside(function: Function) -> Iterator[ast.AST]:
    """All of its nodes but those of functions in it, which are looked at by themselves."""
    left: list[ast.AST] = list(function.body)
    while left:
        node = left.pop()
        yield node
        if not isinstance(node, Function):
            left += ast.iter_child_nodes(node)


def _tainted(nodes: tuple[ast.AST, ...], arguments: set[str]) -> frozenset[str]:
    """Names with validation tokens: named so, or made from such. Twice, for what loops carry back."""
    found = {name for name in arguments if _holds_validation(name)}
    assigned = [node for node in nodes if isinstance(node, ast.Assign | ast.AnnAssign | ast.For)]
    for _ in range(2):
        for node in assigned:
            value = node.iter if isinstance(node, ast.For) else node.value
            if value is not None and _reads_validation(value, found):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {
                    one.id
                    for target in targets
                    for one in ast.walk(target)
                    if isinstance(one, ast.Name) and not _NO_TOKENS.search(one.id)
                }
    return frozenset(found)


def _holds_validation(name: str) -> bool:
    return bool(_VALIDATION.search(name)) and not _NO_TOKENS.search(name)


def _reads_validation(value: ast.AST, tainted: set[str] | frozenset[str]) -> bool:
    for node in ast.walk(value):
        if isinstance(node, ast.Name) and (node.id in tainted or _holds_validation(node.id)):
            return True
        if isinstance(node, ast.Attribute) and node.attr in ("val_files", "val_pattern"):
            return True
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and _VALIDATION_FILES.search(node.value[:200])
        ):
            return True
    return False


# ------------------------------------------------------------ what is done with validation tokens


def _reads(scope: _Scope, names: Names) -> Iterator[Sign]:
    """Rule 2: what trains, or makes the artifact, opens validation files."""
    if not _TRAINS.search(scope.name) or _SCORES.search(scope.name):
        return
    for node in scope.nodes:
        if not isinstance(node, ast.Call):
            continue
        if names.dotted(node.func) not in _READS and getattr(node.func, "attr", "") not in _READ_METHODS:
            continue
        words = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str))
        if any(_VALIDATION_FILES.search(one[:200]) for one in words):
            yield Sign(2, "flag", "reads_validation", f"{scope.name} opens validation files", node.lineno)


def _learns(scope: _Scope, names: Names) -> Iterator[Sign]:
    """Rules 2, 4 to 6, 11 and 12: a backward pass, or a calibration, on validation tokens."""
    if not scope.tainted:
        return
    losses, fitted = _made_from(scope), _delta(scope)
    passes = any(isinstance(node, ast.For) and _EPOCHS.search(ast.unparse(node.target)[:80]) for node in scope.nodes)
    for node in scope.nodes:
        if not isinstance(node, ast.Call):
            continue
        called = names.dotted(node.func) or getattr(node.func, "attr", "")
        learns = called.endswith(".backward") and all_names(node.func) & losses
        learns = learns or (called.endswith("autograd.grad") and bool(all_names(node) & losses))
        if learns and "warm" in scope.name.lower():
            yield Sign(11, "flag", "warms_up_on_validation", "a warm-up learns from validation tokens", node.lineno)
        elif learns and passes:
            words = (
                "it learns from validation tokens in several passes: only what was scored may be learnt from, and once"
            )
            yield Sign(5, "flag", "several_passes", words, node.lineno)
        elif learns and not _SCORES.search(scope.name):
            yield Sign(
                4,
                "flag",
                "learns_from_validation",
                "it learns from validation tokens: legal only after they were scored",
                node.lineno,
            )
        elif learns:
            words = "it adapts to validation tokens: legal only score first, in one pass (the audit proves it)"
            yield Sign(6 if fitted else 5, "flag", "adapts_to_validation", words, node.lineno)
        if re.search(r"calib|hessian|gptq", called, re.IGNORECASE) and all_names(node) & scope.tainted:
            yield Sign(
                12,
                "flag",
                "calibrates_on_validation",
                f"it calibrates on validation tokens ({called[:60]})",
                node.lineno,
            )


def _made_from(scope: _Scope) -> set[str]:
    """Names that come from validation tokens, losses too."""
    found = set(scope.tainted)
    for _ in range(3):
        for node in scope.nodes:
            if isinstance(node, ast.Assign) and all_names(node.value) & found:
                found |= {one for target in node.targets for one in all_names(target)}
    return found


def _delta(scope: _Scope) -> bool:
    """A parameter of its own that is fitted while scoring."""
    for node in scope.nodes:
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if called.endswith(("Parameter", "requires_grad_")):
                return True
            if any(one.arg == "requires_grad" and getattr(one.value, "value", None) is True for one in node.keywords):
                return True
    return False


def _subset(scope: _Scope) -> Iterator[Sign]:
    """Rule 19: a fixed part of the validation tokens."""
    for node in scope.nodes:
        if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice)):
            continue
        upper = node.slice.upper
        if isinstance(upper, ast.Constant) and type(upper.value) is int and upper.value >= LEAST_SLICE:
            base = node.value
            if isinstance(base, ast.Name) and (base.id in scope.tainted or _holds_validation(base.id)):
                yield Sign(
                    19,
                    "flag",
                    "part_of_validation",
                    f"it takes {upper.value:,} validation tokens: all have to be scored",
                    node.lineno,
                )


def _lower_of_two(scope: _Scope, names: Names) -> Iterator[Sign]:
    """Rule 5: of two losses of one token the lower, or of two evaluations the better."""
    for node in scope.nodes:
        if not (isinstance(node, ast.Call) and len(node.args) == 2):
            continue
        called = names.dotted(node.func)
        if called in ("min", "torch.minimum", "torch.min", "numpy.minimum", "np.minimum", "torch.fmin"):
            sides = [ast.unparse(argument)[:80] for argument in node.args]
            if all(LOSS.search(side) for side in sides) and not any("best" in side or "min" in side for side in sides):
                yield Sign(
                    5, "flag", "lower_of_two", f"it takes the lower of two losses ({sides[0]}, {sides[1]})", node.lineno
                )


def _target_gate(scope: _Scope, names: Names) -> Iterator[Sign]:
    """Rule 9: how predictions are mixed depends on the token that is predicted."""
    for node in scope.nodes:
        if not isinstance(node, ast.Assign):
            continue
        bound = " ".join(ast.unparse(target)[:60] for target in node.targets)
        if not _GATE.search(bound):
            continue
        for part in ast.walk(node.value):
            index = part.slice if isinstance(part, ast.Subscript) else None
            if isinstance(part, ast.Call) and names.dotted(part.func).endswith("where") and part.args:
                index = part.args[0]
            if index is not None and all_names(index) & _TARGETS:
                words = f"{bound[:40]} depends on the token that is predicted"
                yield Sign(9, "flag", "target_aware_gate", words, node.lineno)
                break


def all_names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
