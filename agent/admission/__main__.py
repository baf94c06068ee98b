"""A spot check of this machine: prints one JSON record, and nothing else, within a minute.

python -m agent.admission [--cuda] [--disk FOLDER] [--data FOLDER] [--parts gpus,step,...] [--limit SECONDS]

Where our code was sent to the machine, runs use the disk that it lies on, which may be reached over a network, and data
that were sent before lie beside it, each file named by its sha256.
"""

import argparse
import sys
from pathlib import Path

from agent.admission.examine import LIMIT_S, Look, examine
from agent.admission.parts import PARTS
from agent.admission.seen import to_json
from agent.errors import did_you_mean

LARGE = 32_000_000  # bytes of a file that is data, beside those of code


def main(*argv: str) -> int:
    root = depot(Path(__file__))
    parser = argparse.ArgumentParser(prog="python -m agent.admission", description=__doc__.splitlines()[0])
    parser.add_argument("--cuda", action="store_true", help="the work is for GPUs; else for one thread of the CPU")
    parser.add_argument(
        "--disk", type=Path, default=root or Path("/tmp"), help="a folder on the disk that runs will use"
    )
    parser.add_argument(
        "--data", type=Path, default=root and sent(root), help="the folder of the data; its files are read and hashed"
    )
    parser.add_argument("--parts", type=_parts, default=tuple(PARTS), help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help=f"seconds, {LIMIT_S:g} at most")
    args = parser.parse_args(argv)
    look = Look(args.cuda, args.disk.resolve(), args.data and args.data.resolve(), args.parts, args.limit)
    print(to_json(examine(look, lambda words: print(words, file=sys.stderr, flush=True))))
    return 0


def depot(code: Path) -> Path | None:
    """The folder there of all that was sent. None: our code was not."""
    above = code.resolve().parents
    laid = len(above) > 4 and above[3].name == "trees" and (above[4] / "blobs").is_dir()
    return above[4] if laid else None


def sent(root: Path) -> Path | None:
    """What was sent, where data are among it."""
    blobs = root / "blobs"
    return blobs if any(path.lstat().st_size >= LARGE for path in blobs.iterdir()) else None


def _parts(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"no part {name!r}.{did_you_mean(name, PARTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
