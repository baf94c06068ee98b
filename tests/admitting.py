"""Records of machines as spot checks print them, and what nvidia-smi prints, for the tests of what reads them."""

from dataclasses import replace

from agent.admission.judgement import Class, Wanted
from agent.admission.seen import Data, Disk, Environment, File, Gpu, Host, Link, Record, Step, Walls
from sandbox.policy import Level

SHA = {"train/0.bin": "a" * 64, "train/1.bin": "b" * 64}
VAL = "c" * 64
PACKAGES = {"numpy": "2.1.0", "torch": "2.8.0"}
ENVIRONMENT = Environment("3.11.7", "2.8.0", "Linux", PACKAGES, "e" * 64)


def gpu(index: int = 0, **changes: object) -> Gpu:
    usual: dict[str, object] = {
        "index": index,
        "uuid": f"GPU-{index}",
        "name": "NVIDIA H100 80GB HBM3",
        "driver": "550.90.07",
        "memory_mb": 81559.0,
        "used_mb": 1.0,
        "sm_mhz": 1980.0,
        "sm_max_mhz": 1980.0,
        "memory_mhz": 2619.0,
        "memory_max_mhz": 2619.0,
        "power_limit_w": 700.0,
        "power_default_w": 700.0,
        "celsius": 40.0,
        "ecc": "Enabled",
        "ecc_errors": 0.0,
        "slowed_by": (),
        "others": 0,
    }
    return Gpu(**{**usual, **changes})  # type: ignore[arg-type]


def machine(count: int = 1, *, name: str = "one", ms: float = 10.0, **changes: object) -> Record:
    """A good machine with so many H100s; none: a CPU."""
    all_of_them = tuple(map(gpu, range(count)))
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    record = Record(
        version=1,
        seconds=31.0,
        unfinished={},
        host=Host("Xeon", 8, 64_000, "boot", name),
        gpus=all_of_them,
        links=tuple(Link(a, b, "NV18", 380.0 if a == 0 else None) for a, b in pairs),
        step=Step("cuda" if count else "cpu", ms, 0.01, 100, ms, (ms,) * max(1, count), all_of_them),
        disk=Disk(900.0, 1200.0, 50_000.0),
        data=Data(tuple(File(path, 100, sha) for path, sha in SHA.items()), 0, 1000.0),
        environment=ENVIRONMENT,
        walls=Walls("namespaces", ("namespaces", "seccomp"), 128, (), ()),
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def want(gpus: int = 1, level: Level = "landlock") -> Wanted:
    return Wanted(gpus > 0, "H100" if gpus else "", gpus, level, SHA, frozenset({VAL}), disk_mb=4112.0)


KNOWN = Class((10.0, 10.1, 9.9), (380.0, 381.0, 379.0), (1000.0, 900.0, 1100.0), ENVIRONMENT, (1200.0,) * 3)

# As nvidia-smi 550 prints them; what a GPU does not know is in brackets.
H100 = """\
0, GPU-0c8b1e6e-1111, NVIDIA H100 80GB HBM3, 550.90.07, 81559, 4, 1980, 1980, 2619, 2619, 700.00, 700.00, 33, \
Enabled, 0, 0x0000000000000000
1, GPU-0c8b1e6e-2222, NVIDIA H100 80GB HBM3, 550.90.07, 81559, 30211, 1200, 1980, 2619, 2619, 500.00, 700.00, \
84, Enabled, 2, 0x0000000000000068
"""
LITTLE = """\
0, GPU-aaaa, NVIDIA GeForce GTX 1080, 535.54, 8192, 7, [N/A], 1911, 405, 5005, [Not Supported], [N/A], \
51, [N/A], [N/A], 0x0000000000000001
"""
APPS = "GPU-0c8b1e6e-2222, 4711\nGPU-0c8b1e6e-2222, 4712\n"
NVLINKED = """\
\t\x1b[4mGPU0\tGPU1\tGPU2\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m
GPU0\t X \tNV18\tNV18\tPIX\tNODE\t0-47,96-143\t0\t\tN/A
GPU1\tNV18\t X \tNV18\tNODE\tPIX\t0-47,96-143\t0\t\tN/A
GPU2\tNV18\tNV18\t X \tSYS\tSYS\t48-95,144-191\t1\t\tN/A
NIC0\tPIX\tNODE\tSYS\t X \tNODE\t\t\t\t
NIC1\tNODE\tPIX\tSYS\tNODE\t X \t\t\t\t

Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)
  NV#  = Connection traversing a bonded set of # NVLinks
"""
BRIDGED = """\
        GPU0    GPU1    CPU Affinity    NUMA Affinity   GPU NUMA ID
GPU0     X      PHB     0-15    0               N/A
GPU1    PHB      X      0-15    0               N/A
"""
