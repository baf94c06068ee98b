"""Prepares training and validation data.

Takes the name of a corpus and where to put it; gives the folder, its sizes and data_sha on standard output,
progress on standard error. A folder that is ready is checked and left as it is.

    python -m trainer.data docs
    python -m trainer.data synth --out /data/synth
    python -m trainer.data fineweb --variant sp1024 --train-shards 10 --documents

Options without a corpus are for the contest's.
"""

import argparse
import sys
from pathlib import Path

from agent.errors import CaddieError
from trainer.data import Manifest, prepare
from trainer.data.decoded import prepare_documents

ABOUT = {
    "docs": "prose of the documentation strings of what is installed here (8 MB, 20 seconds)",
    "synth": "generated stories whose exact entropy is known (12 MB, a few seconds)",
    "fineweb": "the contest's published token shards (200 MB each, downloaded)",
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m trainer.data", description="Prepare training and validation data.")
    corpora = top.add_subparsers(dest="corpus", required=True, metavar="CORPUS")
    for name, about in ABOUT.items():
        one = corpora.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        one.add_argument("--out", type=Path, metavar="DIR", help=f"the corpus folder (default: .caddie/data/{name})")
        if name == "fineweb":
            one.add_argument("--variant", default="sp1024", help="whose tokens: sp1024 (default), ...")
            one.add_argument("--train-shards", type=int, default=1, metavar="N", help="100 M tokens each (default: 1)")
            one.add_argument("--verify", action="store_true", help="read all shards again, fetch damaged ones anew")
            one.add_argument(
                "--documents",
                action="store_true",
                help="also decode the validation text for the judge, and a little of one more shard",
            )
        else:
            one.add_argument("--remake", action="store_true", help="make it anew although it is there and intact")
    return top


def main(arguments: list[str] | None = None) -> int:
    said = sys.argv[1:] if arguments is None else arguments
    if said and said[0].startswith("--") and said[0] != "--help":
        said = ["fineweb", *said]
    chosen = vars(parser().parse_args(said))
    folder = chosen.pop("out") or Path(".caddie/data") / chosen["corpus"]
    decodes = chosen.pop("documents", False)
    if decodes:
        chosen["keep_back"] = True
    try:
        manifest = prepare(chosen.pop("corpus"), folder, say=_to_stderr, **chosen)
        if decodes:
            prepare_documents(folder, _to_stderr)
    except CaddieError as error:
        _to_stderr(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _to_stderr("stopped; run it again to go on")
        return 130
    print(f"{folder}  {_sizes(manifest)}  data_sha {manifest.data_sha}")
    return 0


def _sizes(manifest: Manifest) -> str:
    sizes = f"{manifest.train.bytes / 1e6:,.1f} MB train, {manifest.val.bytes / 1e6:,.2f} MB validation"
    if manifest.floor_bits is None:
        return sizes
    return f"{sizes}, floor {manifest.floor_bits / manifest.val.bytes:.4f} BPB"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
