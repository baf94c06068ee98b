"""Signs of broken rules in the text of a script. It is parsed, never executed.

Takes a parsed script; gives `Sign`s in the order of lines. What a text can prove is little: a sign that is `invalid` is
something that no honest script needs, the rest are for a person's eye. What blind scoring proves is in scoring.py.
"""

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from agent.judge.rules import flow, packages, seeds
from agent.judge.rules.names import Names, Parsed, Statement, words_of
from agent.judge.rules.payload import Source, unpack
from agent.judge.rules.remembered import Remembered
from agent.judge.rules.signs import Sign
from agent.syntax import uncollected

# Modules whose only use is to talk to other machines, or to fetch.
FETCHES = (
    "aiohttp", "boto3", "botocore", "ftplib", "gdown", "http.client", "httpx", "huggingface_hub", "kagglehub",
    "paramiko", "poplib", "requests", "smtplib", "telnetlib", "torch.hub", "torch.utils.model_zoo", "urllib.request",
    "urllib3", "websocket", "websockets", "wget", "xmlrpc.client",
)  # fmt: skip
MAY_FETCH = ("datasets", "transformers", "wandb", "tiktoken", "torchvision.datasets", "socketserver", "asyncio.streams")
CONNECTS = ("socket.create_connection", "socket.gethostbyname", "socket.getaddrinfo", "asyncio.open_connection")
STARTS = (
    "subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output", "subprocess.Popen",
    "subprocess.getoutput", "subprocess.getstatusoutput", "os.system", "os.popen", "os.execv", "os.execvp",
    "os.spawnv", "os.posix_spawn", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell",
)  # fmt: skip
FETCHING_PROGRAMS = frozenset((
    "aria2c", "aws", "curl", "git", "gsutil", "hf", "huggingface-cli", "nc", "ncat", "rclone", "rsync",
    "scp", "ssh", "wget",
))  # fmt: skip
INSTALLS = frozenset(("apt", "apt-get", "conda", "pip", "pip3", "uv"))
UNPICKLES = (
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.loads", "dill.load", "dill.loads", "joblib.load",
    "cloudpickle.load", "cloudpickle.loads", "marshal.loads", "marshal.load", "shelve.open", "pandas.read_pickle",
)  # fmt: skip
# Characters of a script with all that it unpacks, which is six times the trainer; more would take many seconds.
LONGEST = 400_000
LONGEST_OWN = 2_000_000  # where a person's own script is longer already
DEEPEST = 1_000_000  # of `Words.depths` together: so would what is nested again and again. The trainer has 82,000
TOO_DEEP = Sign(24, "flag", "too_deep", "it is nested too deeply to be looked at", 0)
# A literal that is longer holds text or weights, which belong into the artifact; a list of a vocabulary is shorter.
LONG, TOO_LONG = 2_000, 16_384  # characters
MANY, TOO_MANY = 1_000, 8_192  # items of a list
_PER_TOKEN = re.compile(
    r"bytes_per_token|tokens_per_byte|token_bytes_ratio|val_bytes|total_bytes|num_bytes", re.IGNORECASE
)
ALL_LITERALS = 65_536  # characters of all together


@lru_cache(maxsize=32)
def of_text(text: str, longest: int = LONGEST) -> tuple[Sign, ...]:
    """Of a script that is not packed yet, and of all that it unpacks: if it is too much to be looked at, it is bad."""
    if len(text) > longest:
        return (_too_long(len(text), longest),)
    data = text.encode("utf-8", "surrogatepass")
    with uncollected():
        # Letters that take several bytes leave no less room for what is unpacked.
        return tuple(of_layers(unpack("script", data, longest + len(data) - len(text))))


def longest(before: str) -> int:
    """Characters that an edit may come to."""
    return LONGEST if all(one.name not in ("too_long", "hidden_code") for one in of_text(before)) else LONGEST_OWN


def new(before: str, after: str) -> list[Sign]:
    """What an edit adds."""
    most = longest(before)
    known = Counter(one.key() for one in of_text(before, most))
    found = []
    for one in of_text(after, most):
        known[one.key()] -= 1
        if known[one.key()] < 0:
            found.append(one)
    return found


def _too_long(length: int, most: int) -> Sign:
    words = f"it is longer than any honest script, and is not looked at: {length:,} characters of at most {most:,}"
    return Sign(24, "invalid", "too_long", words, 0)


class Literals(NamedTuple):
    """The long ones, and how many characters all have together."""

    signs: tuple[Sign, ...]
    characters: int


class Shown(NamedTuple):
    """What one statement at module level shows by itself; lines count from where its text begins."""

    signs: tuple[Sign, ...]
    literals: Literals
    names_validation: bool


_remembered: Remembered[Shown] = Remembered()


def signs(parsed: Parsed, payload: Collection[tuple[int, int]] = ()) -> list[Sign]:
    """Everything that the text shows. `payload`: literals that are code, which was unpacked and is looked at too.

    What is nested too deeply hides nothing but itself, and not its imports and literals: they take a look at each node.
    """
    found = [*_imports(parsed.names)]
    characters, validation, deepest = 0, False, _deepest(parsed.statements)
    looked_at: list[Statement] = []
    for statement in parsed.statements:
        alone = parsed.only(statement)
        if words_of(statement).depths <= deepest:
            looked_at.append(statement)
            shown = _shown(alone, statement)
        else:
            shown = _unseen(alone, -statement.line)
        validation |= shown.names_validation
        literals = _literals(alone, payload) if payload else shown.literals
        found += _moved(shown.signs, statement.line)
        found += literals.signs if payload else _moved(literals.signs, statement.line)
        characters += literals.characters
    try:
        found += flow.together(replace(parsed, statements=tuple(looked_at))) if validation else ()
    except RecursionError:
        found.append(TOO_DEEP)
    if characters > ALL_LITERALS:
        found.append(Sign(1, "flag", "many_literals", f"literals of {characters:,} characters together", 0))
    return sorted(dict.fromkeys(found), key=lambda one: (one.line, one.rule, one.name, one.words))


def _deepest(statements: Iterable[Statement]) -> int:
    """The most `Words.depths` of a statement that is looked at: the least deep ones first, until all that fits."""
    left = DEEPEST
    for depths in sorted(words_of(statement).depths for statement in statements):
        if (left := left - depths) < 0:
            return depths - 1
    return DEEPEST


def _shown(alone: Parsed, statement: Statement) -> Shown:
    """Remembered by all that it depends on: the statement's text, and what imports say of the names in it."""
    key = statement.text, alone.names.meant_by(statement)
    return _remembered.answer(key, len(statement.text), lambda: _look(alone, -statement.line))


def _look(alone: Parsed, by: int) -> Shown:
    found: list[Sign] = []
    for look in (_calls, flow.alone, seeds.signs, packages.signs, _constants, _own_file):
        try:
            found += look(alone)
        except RecursionError:  # one expression can be too deep to be written out: that hides nothing from the others
            found.append(TOO_DEEP)
    return _unseen(alone, by)._replace(signs=tuple(_moved(found, by)), names_validation=flow.names_validation(alone))


def _unseen(alone: Parsed, by: int) -> Shown:
    """Its literals are seen all the same."""
    literals = _literals(alone)
    return Shown((TOO_DEEP,), literals._replace(signs=tuple(_moved(literals.signs, by))), names_validation=False)


def _moved(found: Iterable[Sign], by: int) -> Iterator[Sign]:
    return (replace(one, line=one.line + by) for one in found)


def of_layers(layers: tuple[Source, ...]) -> list[Sign]:
    """Of a script and of all that it unpacks."""
    found: list[Sign] = []
    for source in layers:
        if source.parsed is not None:
            found += signs(source.parsed, source.payload)
        found += (
            Sign(24, "invalid", "hidden_code", f"it executes code that nobody can read: {one}", 0)
            for one in source.hidden
        )
        found += [Sign(24, "flag", "no_python", source.why, 0)] if source.why else []
        found += (
            Sign(16, "policy", "runs_a_file", f"its code is in another file, {path[:80]}, which it executes", 0)
            for path in source.runs_files
        )
    return found


def _imports(names: Names) -> Iterator[Sign]:
    for module, line in names.imported:
        if fetcher := _under(module, FETCHES):
            yield Sign(22, "invalid", "network_import", f"it imports {fetcher}: nothing may come from a network", line)
        elif may := _under(module, MAY_FETCH):
            yield Sign(22, "flag", "network_import", f"it imports {may}, which may fetch over a network", line)
        elif module.split(".")[0] in ("pickle", "dill", "cloudpickle", "joblib", "shelve"):
            words = f"it imports {module.split('.')[0]}: reading a pickle executes what is in it"
            yield Sign(25, "flag", "pickle", words, line)


def _under(module: str, known: tuple[str, ...]) -> str:
    return next((one for one in known if module == one or module.startswith(f"{one}.")), "")


def _calls(parsed: Parsed) -> Iterator[Sign]:
    names = parsed.names
    for node in parsed.nodes:
        if not isinstance(node, ast.Call):
            continue
        name, line = names.dotted(node.func), node.lineno
        if name.startswith("torch.hub.") or name == "urllib.request.urlopen":
            yield Sign(22, "invalid", "network_call", f"it calls {name}: nothing may come from a network", line)
        elif name in CONNECTS:
            yield Sign(22, "flag", "network_call", f"it calls {name}", line)
        elif name in STARTS:
            yield _program(node, name)
        elif name in UNPICKLES or _unsafe_load(name, node):
            yield Sign(25, "flag", "unpickles", f"it calls {name}: reading a pickle executes what is in it", line)


def _program(node: ast.Call, called: str) -> Sign:
    """A program that is started, by the words that stand in the call."""
    words = [
        word
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
        for word in part.value.split()[:40]
    ]
    plain = [word.rsplit("/", 1)[-1] for word in words]
    if (fetcher := next((word for word in plain if word in FETCHING_PROGRAMS), None)) is not None:
        return Sign(
            22, "invalid", "network_program", f"it starts {fetcher}: nothing may come from a network", node.lineno
        )
    if (installer := next((word for word in plain if word in INSTALLS), None)) is not None:
        return Sign(22, "flag", "installs", f"it starts {installer}, which fetches over a network", node.lineno)
    shown = plain[0][:40] if plain else called
    return Sign(
        17, "policy", "helper_program", f"it starts a program ({shown}) that does not count as code", node.lineno
    )


def _unsafe_load(name: str, node: ast.Call) -> bool:
    """torch.load that says it wants pickles, numpy.load that allows them."""
    given = {word.arg: word.value for word in node.keywords}
    if name == "torch.load":
        return _is(given.get("weights_only"), False)
    return name in ("numpy.load", "np.load") and _is(given.get("allow_pickle"), True)


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


# ------------------------------------------------------------ literals


def _literals(parsed: Parsed, payload: Collection[tuple[int, int]] = ()) -> Literals:
    """Validation text, or the weights of a model of it, can be written into a script."""
    docstrings = _docstrings(parsed)
    found, characters = list[Sign](), 0
    for node in parsed.nodes:
        if isinstance(node, ast.Constant):
            if node in docstrings or (node.lineno, node.col_offset) in payload:
                continue
            size = _length(node.value)
            characters += size if size > 64 else 0
            if size > LONG:
                found.append(_long(f"{size:,} characters", node, surely=size > TOO_LONG))
        elif isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            items = len(node.keys) if isinstance(node, ast.Dict) else len(node.elts)
            if items > MANY:
                found.append(_long(f"{items:,} items", node, surely=items > TOO_MANY))
    return Literals(tuple(found), characters)


def _long(size: str, node: ast.expr, *, surely: bool) -> Sign:
    words = f"a literal of {size}: text and weights belong into the artifact"
    return Sign(1, "invalid" if surely else "flag", "long_literal", words, node.lineno)


def _length(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return value.bit_length() // 8 if type(value) is int else 0


def _docstrings(parsed: Parsed) -> set[ast.Constant]:
    return {node.value for node in parsed.nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}


# ------------------------------------------------------------ others


def _constants(parsed: Parsed) -> Iterator[Sign]:
    """Rule 18: the number of bytes is counted, not written down."""
    for node in parsed.nodes:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)):
            continue
        value = node.value.value
        if isinstance(value, int | float) and not isinstance(value, bool) and value not in (0, 1):
            for target in node.targets:
                name = ast.unparse(target)[:60]
                if _PER_TOKEN.search(name):
                    words = f"{name} is the constant {value!r}: bytes have to be counted"
                    yield Sign(18, "flag", "fixed_bytes", words, node.lineno)


def _own_file(parsed: Parsed) -> Iterator[Sign]:
    """Rule 24: a script that writes over itself."""
    for node in parsed.nodes:
        if isinstance(node, ast.Call) and "__file__" in flow.all_names(node):
            called = parsed.names.dotted(node.func) or getattr(node.func, "attr", "")
            modes = [one.value for one in node.args[1:] if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            writes = called == "open" and any(set(mode) & set("wax+") for mode in modes)
            if writes or getattr(node.func, "attr", "") in ("write_text", "write_bytes"):
                words = "it writes over its own file: what ran must be what is shown"
                yield Sign(24, "invalid", "writes_itself", words, node.lineno)
