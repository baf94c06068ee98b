"""What is installed with this Python: names and versions, without importing any of it, and their digest.

Machines whose digests are the same give runs the same packages.
"""

import hashlib
import platform
from importlib import metadata


def installed() -> dict[str, str]:
    """Versions by name."""
    found = {one.name: one.version for one in metadata.distributions() if one.name}
    return dict(sorted(found.items()))


def digest() -> str:
    lines = [platform.python_version(), *(f"{name} {version}" for name, version in installed().items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
