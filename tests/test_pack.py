"""The packer: what it gives does what the source does, is the same every time, and can be debugged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import EditError
from tests.absent import package
from trainer import pack as packer
from trainer.pack import main, minify, pack

TRAINER = Path(packer.__file__).with_name("train_gpt.py")

PROBE = '''"""Docstring."""
from __future__ import annotations
import inspect, json, sys
from dataclasses import dataclass
from pathlib import Path

TINY = {"some_knob": 3, "other": "\\u2581"}

@dataclass(frozen=True)
class Shape:
    """Kept fields."""
    width: int = 4
    height: float = 0.5

def kept(function):
    return function

@kept
def decorated(argument: int) -> float:
    return argument / 2

def plain(long_name: int, *, keyword: str = "x") -> str:
    """Says its words."""
    a_local_variable = long_name * 2
    return keyword * a_local_variable

class Module:
    def __init__(self):
        self.attribute_name = 1

if __name__ == "__main__":
    print(json.dumps({
        "argv": sys.argv[1:], "file": Path(__file__).name, "size": Path(__file__).stat().st_size,
        "shape": str(Shape(width=5)), "names": list(vars(Module())), "knobs": TINY,
        "plain": plain(long_name=1, keyword="z"),
        "annotations": sorted(decorated.__annotations__), "source": "return" in inspect.getsource(plain),
    }))
    if "fail" in sys.argv:
        raise ValueError("on purpose")
'''


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "train_gpt.py"
    path.write_bytes(pack(PROBE))
    return path


def test_a_packed_script_does_what_its_source_does(packed: Path) -> None:
    done = run(packed, "train", "--x")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "argv": ["train", "--x"],
        "file": "train_gpt.py",
        "size": packed.stat().st_size,
        "shape": "Shape(width=5, height=0.5)",
        "names": ["attribute_name"],
        "knobs": {"some_knob": 3, "other": "▁"},
        "plain": "zz",
        "annotations": ["argument", "return"],
        "source": True,
    }


def test_a_traceback_shows_the_line_and_where_it_comes_from(packed: Path) -> None:
    done = run(packed, "fail")
    assert done.returncode == 1
    assert "ValueError: on purpose" in done.stderr
    assert "train_gpt.py, minified" in done.stderr
    assert "raise ValueError('on purpose')" in done.stderr


def test_the_same_source_gives_the_same_bytes() -> None:
    script = "import hashlib, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
    script += "from trainer.pack import pack\n"
    script += "print(hashlib.sha256(pack(Path(sys.argv[2]).read_text())).hexdigest())"
    command = [sys.executable, "-c", script, str(TRAINER.parent.parent), str(TRAINER)]
    hashes = {
        subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}).stdout
        for seed in ("0", "1")
    }
    assert len(hashes) == 1


def test_the_trainer_gets_small_and_keeps_what_its_files_name() -> None:
    source = TRAINER.read_text("utf-8")
    small = pack(source)
    assert len(small) < len(source.encode()) / 4
    text = minify(source)
    for name in ("attention_scale", "state_dict", "SCORE_FD", "train_batch_tokens", "final_model.bin"):
        assert name in text
    assert '"""' not in text


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_can_stand_in_the_packed_file(data: bytes) -> None:
    form = packer.Form("zlib", "s", lambda text: text)
    file = packer._wrap(form, data)
    literal = file.split(b"\n")[2].decode("latin-1").removeprefix("s=")
    found: dict[str, bytes] = {}
    exec(compile(b"#coding:latin1\nfound['s']=" + literal.encode("latin-1"), "x", "exec"), {"found": found})
    assert found["s"] == data


def test_what_is_no_python_is_the_models_to_mend() -> None:
    with pytest.raises(EditError, match="line 1"):
        pack("def broken(:\n")


def test_the_command_writes_the_file_and_says_the_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a.py", tmp_path / "b.py"
    source.write_text(PROBE)
    assert main([str(source), str(target)]) == 0
    assert target.read_bytes() == pack(PROBE)
    assert f"packed {target.stat().st_size} bytes" in capsys.readouterr().out
    assert main([str(tmp_path / "missing.py"), str(target)]) == 2
    assert main([str(source)]) == 2


@pytest.mark.slow
def test_dynamo_traces_packed_code(tmp_path: Path) -> None:
    package("torch")
    script = tmp_path / "train_gpt.py"
    script.write_bytes(
        pack(
            "import torch\n"
            "class Net(torch.nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.weight = torch.nn.Parameter(torch.ones(3, 3))\n"
            "    def forward(self, rows):\n"
            "        shifted = rows @ self.weight + 1\n"
            "        return shifted.square().sum()\n"
            "net = Net()\n"
            "seen = []\n"
            "def backend(graph, inputs):\n"
            "    seen.append(len(graph.graph.nodes))\n"
            "    return graph\n"
            "fast = torch.compile(net, backend=backend, fullgraph=True)\n"
            "rows = torch.arange(6.0).view(2, 3)\n"
            "assert torch.equal(fast(rows), net(rows))\n"
            "print('traced', len(seen))\n"
        )
    )
    done = run(script)
    assert done.stdout == "traced 1\n", done.stderr
