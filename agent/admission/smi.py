"""What nvidia-smi says of the GPUs: its documented CSV queries and the matrix of `topo -m`, read without trust.

Takes the text of an answer; gives records. Written against recordings of the formats; `ask` has not run on a GPU yet.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent.admission.seen import Gpu, Link

# By drivers before 535 the last one goes by its old name.
FIELDS = (
    *("index", "uuid", "name", "driver_version", "memory.total", "memory.used", "clocks.current.sm", "clocks.max.sm"),
    *("clocks.current.memory", "clocks.max.memory", "power.limit", "power.default_limit", "temperature.gpu"),
    *("ecc.mode.current", "ecc.errors.uncorrected.volatile.total", "clocks_event_reasons.active"),
)
OLD_FIELDS = (*FIELDS[:-1], "clocks_throttle_reasons.active")
APPS = ("gpu_uuid", "pid")
FORMAT = "--format=csv,noheader,nounits"
TOPOLOGY = ("topo", "-m")
ANSWER_S = 10.0
# Bits of the mask, as NVML has them. Idle is none: a GPU that has nothing to do is not slowed.
REASONS = {
    0x2: "clocks set by hand",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "power brake",
    0x100: "display clocks",
}
IDLE = 0x1
# What slows a GPU that is well: at full load a power cap is usual.
USUAL = frozenset({"power cap", "sync boost"})
_GPU = re.compile(r"GPU(\d{1,3})")
_LINK = re.compile(r"NV\d{1,3}|PIX|PXB|PHB|NODE|SYS|C2C|X")


def gpus(answer: str, apps: str, own: int | None = None) -> tuple[Gpu, ...]:
    """From the answers to `FIELDS` and to `APPS`. `own`: a process that is not one of others.

    Raises:
        ValueError: this is no such answer.
    """
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.strip()]
    found = tuple(_gpu(row) for row in rows)
    if not found:
        raise ValueError("nvidia-smi names no GPU")
    busy = _others(apps, own)
    return tuple(replace(gpu, others=busy.get(gpu.uuid, 0)) for gpu in found)


def _gpu(row: Sequence[str]) -> Gpu:
    if len(row) != len(FIELDS) or not row[0].isdecimal():
        raise ValueError(
            f"nvidia-smi says {','.join(row)[:200]!r}, which is no row of the {len(FIELDS)} that were asked"
        )
    index, uuid, name, driver = row[:4]
    total, used, sm, sm_max, memory, memory_max, limit, default, celsius = map(number, row[4:13])
    ecc, errors, mask = row[13:]
    return Gpu(
        index=int(index),
        uuid=uuid,
        name=name,
        driver=driver,
        memory_mb=total,
        used_mb=used,
        sm_mhz=sm,
        sm_max_mhz=sm_max,
        memory_mhz=memory,
        memory_max_mhz=memory_max,
        power_limit_w=limit,
        power_default_w=default,
        celsius=celsius,
        ecc=ecc,
        ecc_errors=number(errors),
        slowed_by=reasons(mask),
        others=0,
    )


def number(cell: str) -> float | None:
    """None for [N/A], [Not Supported], [Unknown Error] and whatever else is no number."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if 0 <= value < 1e12 else None


def reasons(mask: str) -> tuple[str, ...]:
    """What holds the clocks down, in words. A bit that is not known is told by its number."""
    try:
        bits = int(mask, 16)
    except ValueError:
        return ()
    unknown = bits & ~(IDLE | sum(REASONS)) & 0xFFFF_FFFF_FFFF_FFFF
    named = tuple(words for bit, words in REASONS.items() if bits & bit)
    return (*named, f"bits {unknown:#x}") if unknown else named


def _others(apps: str, own: int | None) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for line in apps.splitlines():
        uuid, _, pid = (part.strip() for part in line.partition(","))
        if pid.isdecimal() and int(pid) != own:
            found[uuid] = found.get(uuid, 0) + 1
    return found


def links(answer: str) -> tuple[Link, ...]:
    """From the matrix of `topo -m`: each pair of GPUs once. Network cards and affinities are left out.

    Raises:
        ValueError: there is no matrix, or it says something that no link is called.
    """
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in answer.splitlines()]  # its header may be underlined
    header = next((line for line in lines if _GPU.search(line)), "")
    columns = [int(number) for number in _GPU.findall(header.split("CPU Affinity")[0])]
    found = []
    for line in lines:
        name, *cells = line.split()[: len(columns) + 1] or [""]
        row = _GPU.fullmatch(name)
        if row is None or line == header:
            continue
        if len(cells) != len(columns) or not all(_LINK.fullmatch(cell) for cell in cells):
            raise ValueError(f"nvidia-smi draws its links as {line[:200]!r}")
        a = int(row[1])
        found += [Link(a, b, kind, None) for b, kind in zip(columns, cells, strict=True) if a < b]
    if not columns:
        raise ValueError("nvidia-smi draws no links")
    return tuple(found)


def ask(*words: str) -> str:
    """Raises OSError where the tool is missing, fails, or does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        raise FileNotFoundError("there is no nvidia-smi in the PATH")
    try:
        done = subprocess.run([tool, *words], capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"nvidia-smi has not answered within {ANSWER_S:g} s") from error
    if done.returncode != 0:
        raise OSError(f"nvidia-smi: {(done.stderr or done.stdout).strip()[:200]}")
    return done.stdout


def look(own: int | None = None) -> tuple[Gpu, ...]:
    """The GPUs as they are now. Raises OSError or ValueError."""
    apps = ask(f"--query-compute-apps={','.join(APPS)}", FORMAT)
    try:
        answer = ask(f"--query-gpu={','.join(FIELDS)}", FORMAT)
    except OSError as error:
        if "not a valid field" not in str(error).lower():
            raise
        answer = ask(f"--query-gpu={','.join(OLD_FIELDS)}", FORMAT)
    return gpus(answer, apps, own)
