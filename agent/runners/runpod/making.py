"""Makes what rents pods, from a table's settings and the environment.

Takes settings, the store and the workspace; gives a `Renter`. The key is read when it is needed, and stays in memory.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from agent.errors import MissingError, UserError, to_install
from agent.machines.renting import Renter, home
from agent.runners.runpod.client import Client, key_of
from agent.runners.runpod.pods import Pods
from agent.runners.runpod.settings import Settings
from agent.store import Store


def renter(
    name: str, settings: Settings, store: Store, workspace: Path, environ: Mapping[str, str] = os.environ
) -> Renter:
    """Raises MissingError without a key or without the packages for it."""
    client = Client(key_of(environ), settings.url)
    pods = Pods(client, settings, public_key(settings, workspace))
    return Renter(store, pods, name, home(store), settings.limits)


def private_key(settings: Settings, workspace: Path) -> Path:
    """The key that opens the pods; made where the settings name none."""
    if settings.ssh_key:
        return Path(settings.ssh_key).expanduser()
    path = workspace / ".caddie" / "pods" / "key"
    if not path.exists():
        _make_key(path)
    return path


def public_key(settings: Settings, workspace: Path) -> str:
    private = private_key(settings, workspace)
    path = private.with_name(f"{private.name}.pub")
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}, which is to go into the pods: {error}") from error
    if len(text) > 10_000 or "\n" in text or not text.startswith(("ssh-", "ecdsa-", "sk-")):
        raise UserError(
            f"{path} is no public key of ssh: ssh_key in runners.toml names a private key, beside which it is"
        )
    return text


def _make_key(path: Path) -> None:
    try:
        import asyncssh
    except ModuleNotFoundError as error:
        raise MissingError(f"renting from RunPod needs asyncssh: {to_install('remote')}") from error
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = asyncssh.generate_private_key("ssh-ed25519", comment="caddie")
    aside = path.with_name(f"{path.name}.new-{os.getpid()}")
    made.write_public_key(str(path.with_name(f"{path.name}.pub")))
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(made.export_private_key())
    aside.replace(path)
