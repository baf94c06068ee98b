"""What opens rented machines: the key of this workspace, or one that the settings name.

Takes a path or none, and the workspace; gives the private key's path, and the text of its other half.
"""

import os
from pathlib import Path

from agent.errors import MissingError, UserError, to_install
from agent.workspace import own_folder


def private_key(named: str, workspace: Path) -> Path:
    """Made where none is named."""
    if named:
        return Path(named).expanduser()
    path = own_folder(workspace) / "rented" / "key"
    if not path.exists():
        _make_key(path)
    return path


def public_key(named: str, workspace: Path) -> str:
    private = private_key(named, workspace)
    path = private.with_name(f"{private.name}.pub")
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}, which is to go into rented machines: {error}") from error
    if len(text) > 10_000 or "\n" in text or not text.startswith(("ssh-", "ecdsa-", "sk-")):
        raise UserError(
            f"{path} is no public key of ssh: ssh_key in runners.toml names a private key, beside which it is"
        )
    return text


def _make_key(path: Path) -> None:
    try:
        import asyncssh
    except ModuleNotFoundError as error:
        raise MissingError(f"machines over ssh need asyncssh: {to_install('remote')}") from error
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = asyncssh.generate_private_key("ssh-ed25519", comment="caddie")
    aside = path.with_name(f"{path.name}.new-{os.getpid()}")
    made.write_public_key(str(path.with_name(f"{path.name}.pub")))
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(made.export_private_key())
    aside.replace(path)
