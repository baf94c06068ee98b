"""Signs that a script reaches out of itself: over a network, by another program, into a pickle.

Takes a parsed script; gives `Sign`s.
"""

import ast
from collections.abc import Iterator

from agent.judge.rules.names import Names, Parsed
from agent.judge.rules.signs import Sign

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
    "aria2c", "aws", "curl", "gsutil", "hf", "huggingface-cli", "nc", "ncat", "rclone", "rsync",
    "scp", "ssh", "wget",
))  # fmt: skip
# git does much that is no fetching: a script may say in its log which commit it is.
_GIT_FETCHES = frozenset(("clone", "fetch", "ls-remote", "pull", "push", "submodule"))
INSTALLS = frozenset(("apt", "apt-get", "conda", "pip", "pip3", "uv"))
UNPICKLES = (
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.loads", "dill.load", "dill.loads", "joblib.load",
    "cloudpickle.load", "cloudpickle.loads", "marshal.loads", "marshal.load", "shelve.open", "pandas.read_pickle",
)  # fmt: skip


def imports(names: Names) -> Iterator[Sign]:
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


def calls(parsed: Parsed) -> Iterator[Sign]:
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
    if (fetcher := _fetcher(plain)) is not None:
        return Sign(
            22, "invalid", "network_program", f"it starts {fetcher}: nothing may come from a network", node.lineno
        )
    if (installer := next((word for word in plain if word in INSTALLS), None)) is not None:
        return Sign(22, "flag", "installs", f"it starts {installer}, which fetches over a network", node.lineno)
    shown = plain[0][:40] if plain else called
    return Sign(
        17, "policy", "helper_program", f"it starts a program ({shown}) that does not count as code", node.lineno
    )


def _fetcher(words: list[str]) -> str | None:
    if "git" in words:
        after = words[words.index("git") + 1 :]
        if not _GIT_FETCHES.isdisjoint(after) or {"remote", "update"} <= set(after):
            return "git"
    return next((word for word in words if word in FETCHING_PROGRAMS), None)


def _unsafe_load(name: str, node: ast.Call) -> bool:
    """torch.load that says it wants pickles, numpy.load that allows them."""
    given = {word.arg: word.value for word in node.keywords}
    if name == "torch.load":
        return _is(given.get("weights_only"), False)
    third = node.args[2] if len(node.args) > 2 else None
    return name in ("numpy.load", "np.load") and _is(given.get("allow_pickle", third), True)


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is not None and bool(node.value) is value
