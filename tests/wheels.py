"""Real wheels, made on the spot: a small one, and those of packages that are installed here.

Takes a folder; gives the wheel's path. pip takes them as it takes any other.
"""

import base64
import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name


def small(folder: Path, name: str = "tiny_thing", version: str = "1.0", says: str = "hello") -> Path:
    """One module that says something."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"SAYS = {says!r}\n".encode(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    return _zip(folder / f"{name}-{version}-py3-none-any.whl", files, info)


def installed(folder: Path, name: str) -> Path:
    """The wheel of a package as it lies here."""
    folder.mkdir(parents=True, exist_ok=True)
    found = metadata.distribution(name)
    files = {
        str(path): Path(str(path.locate())).read_bytes()
        for path in found.files or ()
        if ".." not in path.parts and "__pycache__" not in path.parts and path.name not in ("RECORD", "INSTALLER")
    }
    (info,) = {path.split("/")[0] for path in files if path.endswith(".dist-info/WHEEL")}
    tags = [line[5:] for line in files[f"{info}/WHEEL"].decode().splitlines() if line.startswith("Tag: ")]
    python, abi, platform = tags[0].split("-")
    platforms = ".".join(dict.fromkeys(tag.split("-")[2] for tag in tags))
    plain = canonicalize_name(name).replace("-", "_")
    return _zip(folder / f"{plain}-{found.version}-{python}-{abi}-{platforms or platform}.whl", files, info)


def _zip(path: Path, files: dict[str, bytes], info: str) -> Path:
    rows = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in files.items()]
    record = "\n".join([*rows, f"{info}/RECORD,,", ""])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made:
        for name, data in {**files, f"{info}/RECORD": record.encode()}.items():
            made.writestr(name, data)
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
