"""A fixed piece of work, by which machines of one class are compared; and copies between GPUs.

On a CPU one thread of pure Python and its hashes. On GPUs, in bf16, one block of a small transformer forwards and
backwards: matrices and attention, as training has them. The part for GPUs has not run on one yet.
"""

import hashlib
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.admission import smi
from agent.admission.seen import Gpu, Link, Step

ROUNDS = 60_000  # of the work for a CPU: some tens of milliseconds
LEAST, MOST = 5, 400  # repeats
CPU_S = 3.0
GPU_S = 1.5  # of each
# Of the contest's baseline: 65,536 tokens are what each of eight GPUs has of its batch. Large enough that it is the GPU
# that takes the time, and not those who send it work.
BATCH, LENGTH, HEADS, WIDTH = 64, 1024, 8, 512
COPY_MB, COPIES = 256, 8


class Timed(NamedTuple):
    wall_ms: float
    cpu_ms: float


def cpu() -> Step:
    """Of one thread: others' work on the core shows as wall time without processor time."""
    times = repeated(_round, CPU_S)
    median = sorted(times)[len(times) // 2]
    return step("cpu", [[one.wall_ms for one in times]], median.cpu_ms, ())


def _round() -> Timed:
    wall, used = time.perf_counter(), time.process_time()
    state, digest = 1, hashlib.sha256()
    for n in range(ROUNDS):
        state = (state * 6364136223846793005 + n) & 0xFFFF_FFFF_FFFF_FFFF
        if n % 600 == 0:
            digest.update(state.to_bytes(8, "little") * 1024)
    return Timed(1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - used))


def repeated(work: Callable[[], Timed], seconds: float) -> list[Timed]:
    """At least some times, then until the time is over. The first ones warm up and are not counted."""
    work()
    until, found = time.perf_counter() + seconds, list[Timed]()
    while len(found) < LEAST or (time.perf_counter() < until and len(found) < MOST):
        found.append(work())
    return found


def step(device: str, each: Sequence[Sequence[float]], cpu_ms: float, loaded: tuple[Gpu, ...]) -> Step:
    """Of several GPUs the slowest counts: a run on all of them waits for it."""
    medians = [statistics.median(times) for times in each]
    slowest = each[medians.index(max(medians))]
    low, middle, high = statistics.quantiles(slowest, n=4)
    spread = (high - low) / middle
    return Step(device, max(medians), spread, min(map(len, each)), cpu_ms, tuple(medians), loaded)


def cuda() -> Step:
    """On every GPU, one after the other; the driver is asked while the last one works."""
    import torch

    each: list[list[float]] = []
    loaded: tuple[Gpu, ...] = ()
    for number in range(torch.cuda.device_count()):
        block = _block(torch, f"cuda:{number}")
        each.append([one.wall_ms for one in repeated(block, GPU_S)])
        if number == torch.cuda.device_count() - 1:
            loaded = _while(block)
    if not each:
        raise OSError("torch sees no GPU")
    return step("cuda", each, 0.0, loaded)


def _block(torch, device: str) -> Callable[[], Timed]:  # type: ignore[no-untyped-def]
    """Torch is not typed here: it is there on some machines only."""
    generator = torch.Generator(device=device).manual_seed(1)

    def weights(*shape: int):  # type: ignore[no-untyped-def]
        made = torch.randn(*shape, device=device, dtype=torch.bfloat16, generator=generator) / shape[0] ** 0.5
        return made.requires_grad_()

    x = weights(BATCH * LENGTH, WIDTH)
    mixed, out, up, down = (
        weights(*shape) for shape in ((WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH))
    )
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def once() -> Timed:
        before.record(torch.cuda.current_stream(device))
        for _ in range(9):  # layers of the baseline
            parts = (x @ mixed).view(BATCH, LENGTH, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
            seen = torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
            hidden = x + seen.transpose(1, 2).reshape(BATCH * LENGTH, WIDTH) @ out
            (hidden + torch.relu(hidden @ up).square() @ down).float().pow(2).mean().backward()
        after.record(torch.cuda.current_stream(device))
        torch.cuda.synchronize(device)
        return Timed(before.elapsed_time(after), 0.0)

    return once


def _while(work: Callable[[], Timed]) -> tuple[Gpu, ...]:
    """What the driver says while the GPU works: what slows it at rest is no matter."""
    import threading

    seen: list[tuple[Gpu, ...]] = []

    def look() -> None:
        try:
            seen.append(smi.look(os.getpid()))
        except (OSError, ValueError):
            seen.append(())

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    until = time.perf_counter() + smi.ANSWER_S
    while looking.is_alive() and time.perf_counter() < until:
        work()
    return seen[0] if seen else ()


def links() -> tuple[Link, ...]:
    """What the driver draws, and how fast a copy from the first GPU to each other one is."""
    drawn = {(link.a, link.b): link.kind for link in smi.links(smi.ask(*smi.TOPOLOGY))}
    speeds = _copies()
    return tuple(Link(a, b, drawn.get((a, b), ""), speeds.get((a, b))) for a, b in sorted(drawn.keys() | speeds.keys()))


def _copies() -> dict[tuple[int, int], float]:
    import torch

    found: dict[tuple[int, int], float] = {}
    for other in range(1, torch.cuda.device_count()):
        source = torch.zeros(COPY_MB << 20, dtype=torch.uint8, device="cuda:0")
        target = torch.empty_like(source, device=f"cuda:{other}")
        target.copy_(source)
        torch.cuda.synchronize(other)
        started = time.perf_counter()
        for _ in range(COPIES):
            target.copy_(source, non_blocking=True)
        torch.cuda.synchronize(0)
        torch.cuda.synchronize(other)
        found[0, other] = COPIES * (COPY_MB << 20) / (time.perf_counter() - started) / 1e9
    return found
