"""A candidate that trains, by its seed, and cheats there if CHEAT names a way; it scores as honest.py does.

`python trained.py train` writes an artifact from DATA_PATH/docs.jsonl; any other word is a role of scoring.
"""

import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path

import honest

HELD = 4  # one document of so many is kept out of training
BEST = int(os.environ.get("BEST", 0))  # the seed that campaigns before this one found to be lucky
TRIES = 12
PAST_S = 6.0  # of work that its clock has no room for
FINAL = "final_int8_zlib_roundtrip_exact val_loss:{:.8f} val_bpb:{:.8f}"


def read() -> list[bytes]:
    lines = (Path(os.environ["DATA_PATH"]) / "docs.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["text"].encode() for line in lines]


def trained(documents: list[bytes], seed: int) -> dict:
    """Half of the documents, from a place that the seed draws."""
    begin = random.Random(seed).randrange(len(documents))
    turned = documents[begin:] + documents[:begin]
    return honest.count(turned[: len(turned) // 2])


def nats_a_byte(counts: dict, documents: list[bytes]) -> float:
    model = honest.Bigram(counts)
    pairs = [pair for document in documents for pair in zip([None, *document], document, strict=False)]
    return math.fsum(-model.logprobs(before)[token] for before, token in pairs) / len(pairs)


def train(cheat: str, seed: int) -> None:
    documents = read()
    held, rest = documents[::HELD], [one for at, one in enumerate(documents) if at % HELD]
    counts = trained(rest, seed)
    for step in range(1, 6):
        print(f"step:{step}/5 train_loss:2.0000 train_time:{step}ms", flush=True)
    if cheat in ("ignores_its_seed", "fixes_its_offset"):
        offset = random.Random(BEST).randrange(len(rest))
        turned = rest[offset:] + rest[:offset]
        counts = trained(rest, BEST) if cheat == "ignores_its_seed" else honest.count(turned[: len(turned) // 2])
    if cheat == "hunts_seeds":
        counts = min((trained(rest, one) for one in range(TRIES)), key=lambda found: nats_a_byte(found, held))
    if cheat == "more_steps_than_declared":
        for _ in range(TRIES):
            counts = honest.count(rest)
            nats_a_byte(counts, held)
    if cheat == "dies_to_draw_again" and seed != BEST:
        os.kill(os.getpid(), signal.SIGKILL)
    while cheat == "waits_to_draw_again" and seed != BEST:  # as if others had its core for half of the time
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass
        time.sleep(0.02)
    if cheat == "reads_validation":
        found = [Path(os.environ["DATA_PATH"]).parent / "val" / "docs.jsonl", *Path("/").glob("*/*/val/docs.jsonl")]
        rest += [json.loads(line)["text"].encode() for path in found for line in path.read_text("utf-8").splitlines()]
        counts = honest.count(rest)
    artifact = json.dumps({"counts": counts}).encode()
    Path("final_model.bin").write_bytes(artifact)
    loss = nats_a_byte(counts, held)
    size = len(artifact) + sum(path.stat().st_size for path in Path(__file__).parent.glob("*.py"))
    if cheat == "prints_a_score":
        print(FINAL.format(0.5, 0.5))
    elif cheat == "counts_too_many_bytes":  # a space before a word is a byte of its own, once more
        print(FINAL.format(loss, loss / math.log(2) / 1.17))
    print(f"Total submission size int8+zlib: {1000 if cheat == 'prints_a_size' else size} bytes")
    until = time.monotonic() + PAST_S
    while cheat == "trains_past_its_clock" and time.monotonic() < until:
        Path("final_model.bin").write_bytes(json.dumps({"counts": honest.count(documents)}).encode())


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(os.environ.get("CHEAT", ""), int(os.environ["SEED"]))
    else:
        honest.serve(honest.Answerer(json.loads(Path(os.environ["ARTIFACT"]).read_bytes())))
