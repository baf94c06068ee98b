"""Signs of broken rules in a script's text: what is seen, how severe it is, and that honest scripts show none."""

import base64
import random
import re
from pathlib import Path

import pytest

from agent.judge.rules import static
from agent.records import Finding
from agent.script import syntax
from tests.signs import told

ROOT = Path(__file__).parents[1]
KERNEL = "__global__ void half(float* a, int n) {\n    int i = threadIdx.x;  // one each\n    a[i] /= 2;\n}\n"
RUN = "import torch\ndef run(n):\n torch.manual_seed(n)\n return train()\n"
PROSE = "He said, she went on:\nthe story of a cat and of two mice\n"
PACKED = re.sub("(.{70})", "\\1=\n", base64.b85encode(random.Random(1).randbytes(15_000)).decode())


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        # 1: text or weights in the script
        ("BLOB = '" + "x" * 20_000 + "'", (1, "invalid", "long_literal")),
        ("BLOB = b'" + "x" * 3_000 + "'", (1, "flag", "long_literal")),
        ("BLOB = 0x" + "f" * 6_000, (1, "flag", "long_literal")),
        ("BLOB = 0x" + "f" * 70_000, (1, "invalid", "long_literal")),
        ("BLOB = [" + "1," * 9_000 + "]", (1, "invalid", "long_literal")),
        ("BLOB = {" + "1:2," * 1_500 + "}", (1, "flag", "long_literal")),
        ("\n".join(f"a{n} = '{'x' * 1500}'" for n in range(50)), (1, "flag", "many_literals")),
        (f"BLOB = {KERNEL * 250!r}", (1, "flag", "long_literal")),
        (f"BLOB = {KERNEL * 900!r}", (1, "invalid", "long_literal")),
        (f"BLOB = {('// a story of two cats;' + chr(10)) * 900!r}", (1, "invalid", "long_literal")),
        (f"BLOB = {PROSE * 400!r}", (1, "invalid", "long_literal")),
        (f"BLOB = {PACKED!r}", (1, "invalid", "long_literal")),
        ("\n".join(f"a{n} = {['x' * 60] * 10}" for n in range(200)), (1, "flag", "many_literals")),
        ("\n".join(f"a{n} = {list(range(10_000, 10_999))}" for n in range(20)), (1, "flag", "many_literals")),
        ("class T:\n" + "".join(f"    a{n}_the_story_goes = 0\n" for n in range(4_000)), (1, "flag", "many_literals")),
        ("f(" + "".join(f"a{n}_the_story_goes_on=0, " for n in range(4_000)) + ")", (1, "flag", "many_literals")),
        ("x = 1\n" + "".join(f"'{'x' * 900}'\n" for n in range(90)) + "print(__doc__)", (1, "flag", "many_literals")),
        (f"{PROSE * 400!r}\nTEXT = __doc__", (1, "invalid", "long_literal")),
        (f"def f():\n    {PROSE * 400!r}\nTEXT = f.__doc__", (1, "invalid", "long_literal")),
        (f"def f():\n    {PROSE * 400!r}\nTEXT = open(__file__).read()", (1, "flag", "many_comments")),
        (f"# {'a story ' * 4_000}\nTEXT = open(__file__).read()", (1, "flag", "many_comments")),
        ("import inspect\ndef f():\n" + " a()  # a tale\n" * 2_100 + "inspect.getsource", (1, "flag", "many_comments")),
        # 2: training opens validation files
        ("def train():\n return open('data/fineweb_val_000000.bin', 'rb').read()", (2, "flag", "reads_validation")),
        ("def pack_artifact(p):\n return (p / 'val' / 'docs.jsonl').read_text()", (2, "flag", "reads_validation")),
        # 4 to 6, 11 and 12: what is done with validation tokens
        (
            """
            def fit(model, val_tokens, optimizer):
                loss = model(val_tokens)
                loss.backward()
            """,
            (4, "flag", "learns_from_validation"),
        ),
        (
            """
            def eval_ttt(model, data):
                tokens = load("fineweb_val_000000.bin")
                for epoch in range(3):
                    loss = model(tokens)
                    loss.backward()
            """,
            (5, "flag", "several_passes"),
        ),
        (
            """
            def eval_val(model, val_tokens):
                for chunk in val_tokens.split(9):
                    loss = model(chunk)
                    loss.backward()
            """,
            (5, "flag", "adapts_to_validation"),
        ),
        (
            """
            import torch
            def eval_slot(model, val_tokens):
                delta = torch.zeros(512, requires_grad=True)
                loss = model(val_tokens, delta)
                loss.backward()
            """,
            (6, "flag", "adapts_to_validation"),
        ),
        ("def f(nll_a, nll_b):\n return torch.minimum(nll_a, nll_b)", (5, "flag", "lower_of_two")),
        (
            """
            def warmup_ttt(model, val_data):
                loss = model(val_data[:8])
                loss.backward()
            """,
            (11, "flag", "warms_up_on_validation"),
        ),
        ("def q(m, val_tokens):\n return collect_hessians(m, val_tokens)", (12, "flag", "calibrates_on_validation")),
        # 9: the target steers
        ("def mix(p, q, targets):\n gate = word_start[targets]\n return gate * p", (9, "flag", "target_aware_gate")),
        ("def mix(p, q, y):\n logits = torch.where(inside[y], p, q)\n return logits", (9, "flag", "target_aware_gate")),
        # 17: helpers
        ("import subprocess\nsubprocess.run(['lrzip', 'm.bin'])", (17, "policy", "helper_program")),
        # 18 and 19: what is counted
        ("bytes_per_token = 2.4359", (18, "flag", "fixed_bytes")),
        ("def eval_val(val_tokens):\n return score(val_tokens[:3_000_000])", (19, "flag", "part_of_validation")),
        # 21: luck
        (
            """
            import torch
            best = 9.0
            for seed in range(40):
                torch.manual_seed(seed)
                loss = train()
                if loss < best:
                    best, kept = loss, seed
            """,
            (21, "invalid", "seed_hunting"),
        ),
        (
            """
            def main():
                n = 0
                while n < 9:
                    n += 1
                    g = torch.Generator().manual_seed(n)
                    worst = min(worst, loss(g))
            """,
            (21, "invalid", "seed_hunting"),
        ),
        ("import torch\nfor layer in range(3):\n torch.manual_seed(layer)\n make(layer)", (21, "flag", "many_seeds")),
        (
            """
            def rotated(weights, generator, seed):
                for trial in range(8):
                    generator.manual_seed(seed + trial)
                    error = mse_loss(quantised(weights @ drawn(generator)), weights)
                    if error < best_error:
                        best_error, best = error, trial
            """,
            (21, "flag", "many_seeds"),
        ),
        (
            """
            def fit(model):
                for step in range(400):
                    rng = random.Random(step)
                    loss = model(rng)
                    if loss < best:
                        best, kept = loss, model.copy()
            """,
            (21, "flag", "many_seeds"),
        ),
        (f"{RUN}for n in range(40):\n loss = run(n)\n if loss < best: best = loss", (21, "invalid", "seed_hunting")),
        (f"{RUN}kept = min(range(40), key=run)", (21, "invalid", "seed_hunting")),
        (f"{RUN}kept = min(range(40), key=lambda seed: run(seed + 1))", (21, "invalid", "seed_hunting")),
        (f"{RUN}kept = min(map(run, range(40)))", (21, "invalid", "seed_hunting")),
        (f"{RUN}def again(n):\n return run(n)\nkept = min(again(n) for n in a)", (21, "invalid", "seed_hunting")),
        (f"{RUN}losses = [run(seed) for seed in range(40)]\nkept = min(losses)", (21, "invalid", "seed_hunting")),
        ("losses = [(torch.manual_seed(s), train())[1] for s in a]\nb = min(losses)", (21, "invalid", "seed_hunting")),
        (f"{RUN}losses = [run(seed) for seed in range(3)]\nprint(mean(losses))", (21, "flag", "many_seeds")),
        ("LUCKY = 1337\ndef f():\n random.seed(LUCKY)", (21, "flag", "fixed_seed")),
        ("LUCKY: int = 1300 + 37\nrng = random.Random(LUCKY + 1)", (21, "flag", "fixed_seed")),
        ("import torch\ntorch.manual_seed(1336 + 1)", (21, "flag", "fixed_seed")),
        ("import numpy as np\nnp.random.RandomState(1337)", (21, "flag", "fixed_seed")),
        ("from numpy.random import default_rng\ndefault_rng(seed=1337)", (21, "flag", "fixed_seed")),
        ("import numpy as np\nnp.random.Generator(np.random.PCG64([1337, 1]))", (21, "flag", "fixed_seed")),
        ("import random\nrandom.Random(int('1337'))", (21, "flag", "fixed_seed")),
        ("import torch\ntorch.manual_seed(1337)", (21, "flag", "fixed_seed")),
        ("import random as r\ndraw = r.Random(7)", (21, "flag", "fixed_seed")),
        ("import sys\nif final_loss > 2.31:\n sys.exit(1)", (21, "flag", "ends_by_loss")),
        # 22: the network
        ("import requests", (22, "invalid", "network_import")),
        ("from urllib.request import urlopen as u", (22, "invalid", "network_import")),
        ("m = __import__('huggingface_hub')", (22, "invalid", "network_import")),
        ("import importlib\nm = importlib.import_module('ur' + 'llib.request')", (22, "invalid", "network_import")),
        ("m = __import__(f'htt{\"px\"}')", (22, "invalid", "network_import")),
        ("m = __import__('.'.join(['http', 'client']))", (22, "invalid", "network_import")),
        ("import importlib\nm = importlib.import_module('httpx')", (22, "invalid", "network_import")),
        ("import torch\ntorch.hub.load('a/b', 'c')", (22, "invalid", "network_call")),
        ("from torch import hub as h\nh.load('a/b', 'c')", (22, "invalid", "network_call")),
        ("import os as o\no.system('cd /x && /usr/bin/curl -O http://a')", (22, "invalid", "network_program")),
        ("import subprocess\nsubprocess.run(['git', 'clone', 'http://a'])", (22, "invalid", "network_program")),
        ("import os\nos.system('git -C x remote update')", (22, "invalid", "network_program")),
        ("import subprocess\nsubprocess.run(['git', 'rev-parse', 'HEAD'])", (17, "policy", "helper_program")),
        ("import os\nos.system('git log -1; curl http://a')", (22, "invalid", "network_program")),
        ("import subprocess as s\ns.check_call(['pip', 'install', 'brotli'])", (22, "flag", "installs")),
        ("import socket\nsocket.create_connection(('10.0.0.1', 80))", (22, "flag", "network_call")),
        ("from datasets import load_dataset", (22, "flag", "network_import")),
        ("import argparse\ntext = argparse.__doc__", (22, "flag", "reads_packages")),
        ("import torch.nn as n\nopen(n.__file__)", (22, "flag", "reads_packages")),
        ("from inspect import getsource as s\ns(json)", (22, "flag", "reads_packages")),
        ("import pydoc\npydoc.render_doc('json')", (22, "flag", "reads_packages")),
        ("for p in Path('/usr/lib/python3.11').glob('*.py'):\n more(p)", (22, "flag", "reads_packages")),
        # 24: what ran is what is shown
        ("exec(open('x').read() + s)", (24, "invalid", "hidden_code")),
        ("eval(input())", (24, "invalid", "hidden_code")),
        ("open(__file__, 'w').write(s)", (24, "invalid", "writes_itself")),
        ("open(file=__file__, mode='a').write(s)", (24, "invalid", "writes_itself")),
        ("import sys\nopen(sys.argv[0], 'r+').write(s)", (24, "invalid", "writes_itself")),
        ("from pathlib import Path as P\nP(__file__).resolve().open('w').write(s)", (24, "invalid", "writes_itself")),
        ("import os\nos.replace('new.py', os.path.abspath(__file__))", (24, "invalid", "writes_itself")),
        ("me = __file__\nopen(me, 'w').write(s)", (24, "invalid", "writes_itself")),
        ("def f():\n me.write_text(s)\nme = Path(__file__).resolve()", (24, "invalid", "writes_itself")),
        ("import sys\nme = sys.argv[0]\nopen(str(me), 'w').write(s)", (24, "invalid", "writes_itself")),
        ("me = Path(__file__)\nme = me or 'x'\nme.write_text(s)", (24, "flag", "writes_itself")),
        ("import os\neval(os.environ.get('LAYERS', '(1, 2)'))", (24, "flag", "hidden_code")),
        ("import os\neval(os.environ['LAYERS'], {})", (24, "flag", "hidden_code")),
        ("import os\neval(os.getenv('A', '__import__(\"httpx\")'))", (22, "invalid", "network_import")),
        ("import os\nexec(os.environ['A'])", (24, "invalid", "hidden_code")),
        ("import os\nos.environ['A'] = s\neval(os.environ['A'])", (24, "invalid", "hidden_code")),
        ("import os\nos.environ['B'] = s\neval(os.environ['A'])", (24, "flag", "hidden_code")),
        ("import os\nos.environ[b] = s\neval(os.environ['A'])", (24, "invalid", "hidden_code")),
        ("import os\ne = os.environ\ne['A'] = s\neval(os.environ['A'])", (24, "invalid", "hidden_code")),
        ("run = exec\nrun(s)", (24, "invalid", "hidden_code")),
        *(
            (text, (24, "invalid", "hidden_code"))
            for text in (
                "def eval(m): return 1\ndel eval\neval(s)",
                "def eval(m): return 1\ndef f():\n del (\n  eval)\n eval(s)",
                "def eval(m): return 1\nglobals().pop('eval')\neval(s)",
                "eval(s)\ndef eval(m): return 1",
                "if a:\n def eval(m): return 1\neval(s)",
                "def eval(m): return 1\nfrom builtins import eval\neval(s)",
                "eval = eval\neval(s)",
            )
        ),
        ("[exec][0](s)", (24, "invalid", "hidden_code")),
        ("def run(text, how=exec):\n how(text)", (24, "invalid", "hidden_code")),
        ("def run(text, eval=eval):\n eval(text)", (24, "invalid", "hidden_code")),
        ("@exec\ndef text():\n ...", (24, "invalid", "hidden_code")),
        ("list(map(exec, [s]))", (24, "invalid", "hidden_code")),
        ("import functools\nfunctools.partial(exec, s)()", (24, "invalid", "hidden_code")),
        ("__builtins__.exec(s)", (24, "invalid", "hidden_code")),
        ("import builtins as b\nrun = b.eval", (24, "invalid", "hidden_code")),
        ("import builtins\ngetattr(builtins, 'ex' + 'ec')(s)", (24, "invalid", "hidden_code")),
        ("import sys\nsys.modules['built' + 'ins'].exec(s)", (24, "invalid", "hidden_code")),
        ("vars(a)['exec'](s)", (24, "invalid", "hidden_code")),
        ("run = __import__('builtins')\nrun.exec(s)", (24, "invalid", "hidden_code")),
        ("import types, marshal\ntypes.FunctionType(marshal.loads(s), {})()", (24, "invalid", "hidden_code")),
        ("from types import FunctionType as F\nF(compile(s, 'x', 'exec'), {})()", (24, "invalid", "hidden_code")),
        ("f.__code__ = compile(s, 'x', 'exec')", (24, "invalid", "hidden_code")),
        ("code = compile(s, 'x', 'exec')", (24, "flag", "hidden_code")),
        ("code = compile('import httpx', 'x', 'exec')", (22, "invalid", "network_import")),
        ("def f(run=compile):\n run(s)", (24, "flag", "hidden_code")),
        ("parser.add_argument('--layers', type=eval)", (24, "flag", "hidden_code")),
        ("[eval(one) for one in [exec for eval in a]]", (24, "invalid", "hidden_code")),
        ("exec(open('helper.py').read())", (16, "policy", "runs_a_file")),
        # 25: pickles
        ("import pickle\npickle.load(f)", (25, "flag", "unpickles")),
        ("import torch as t\nt.load('m.ptz', weights_only=False)", (25, "flag", "unpickles")),
        ("import torch\ntorch.load('m.ptz', weights_only=0)", (25, "flag", "unpickles")),
        ("import numpy as np\nnp.load('m.npy', None, 1)", (25, "flag", "unpickles")),
        ("import numpy as np\nnp.load('m.npy', allow_pickle=True)", (25, "flag", "unpickles")),
    ],
)  # fmt: skip
def test_each_sign_is_seen(text: str, sign: tuple[int, str, str]) -> None:
    assert sign in told(text)


@pytest.mark.parametrize(
    "text",
    [
        # The evaluation that every contest script has.
        """
        def eval_val(args, model, val_tokens, base_bytes_lut, has_leading_space_lut, is_boundary_token_lut):
            usable = ((val_tokens.numel() - 1) // args.train_seq_len) * args.train_seq_len
            for start in range(0, usable, 4096):
                x, y = val_tokens[start : start + 9], val_tokens[start + 1 : start + 10]
                val_loss_sum = val_loss_sum + model(x, y).detach()
                token_bytes = base_bytes_lut[y] + (has_leading_space_lut[y] & ~is_boundary_token_lut[x])
                val_byte_count = val_byte_count + token_bytes.sum()
            return val_loss_sum / val_token_count
        """,
        # Training and validation in one function.
        """
        def main():
            val_tokens = load_validation_tokens(args.val_files, args.train_seq_len)
            random.seed(args.seed)
            torch.manual_seed(args.seed)
            best_val_loss = 9.0
            for step in range(args.iterations):
                val_loss, val_bpb = eval_val(args, model, val_tokens)
                best_val_loss = min(best_val_loss, val_loss)
                x, y = train_loader.next_batch(args.train_batch_tokens, args.train_seq_len)
                loss = model(x, y)
                (loss * grad_scale).backward()
        """,
        "def load_validation(p):\n return open(p + '/fineweb_val_0.bin').read()",
        "import torch\nstate = torch.load('m.pt', weights_only=True)\nstate = torch.load('m.pt')",
        "import socket, os\nchannel = socket.socket(fileno=int(os.environ['SCORE_FD']))",
        "import torch.distributed as dist\ndist.init_process_group('nccl')",
        "code = open(__file__).read()\nprint(f'Code size: {len(code)} bytes')",
        "import math\nif loss != loss:\n raise SystemExit('NaN')",
        "WORDS = [" + "'a'," * 500 + "]",
        "'''" + "a docstring " * 3_000 + "'''",
        "gate = sigmoid(x @ w)\nlogits = torch.where(logits > cap, cap, logits)",
        "import re\nre.compile('x')\nmodel = torch.compile(model)\nmodel.eval()",
        "for seed in (1, 2):\n print(seed)",
        "import random\ndocs = random.Random(0).sample(docs, len(docs))",
        "import argparse\nparser = argparse.ArgumentParser(description=__doc__)\nhere = Path(__file__).parent",
        f"{PROSE * 200!r}\nimport argparse\nparser = argparse.ArgumentParser(description=__doc__)",
        "# a comment\n" * 1_000 + "print(len(open(__file__).read()))",
        "# a comment\n" * 20_000 + "x = 1",
        "me = Path(__file__)\nout = me.parent / 'log'\nout.write_text(me.read_text())",
        "SEED = int(os.environ.get('SEED', 1337))\ntorch.manual_seed(SEED)\nrng = random.Random(SEED + 1)",
        "def f(seed):\n torch.manual_seed(seed)\nseed = 1337\nf(args.seed)",
        "LAYERS = 9\nZERO = 0\nrandom.seed(ZERO)\nrandom.Random(args.seed + LAYERS)",
        "def batch(step):\n return random.Random(step).random()\nfor step in a:\n loss = train(batch(step))",
        "import torch\nstate = torch.load('m.pt', weights_only=None)",
        "print(__file__)\nCOLOURS = [\n" + f"{'#' + 'a' * 900!r},\n" * 20 + "]",
        "def eval(model):\n return 1\ndef main():\n print(eval(m))\nevery(10, eval)",
        "compile = True\nif compile:\n model = torch.compile(model)",
        "def main(compile=True, eval=False):\n if eval or compile:\n  model.eval()",
        "def main(args):\n for eval in args.evals:\n  eval(model)\n[exec() for exec in args.executors]",
        "import builtins\nplain = builtins.print\nbuiltins.print = quiet",
        "import types\nf = isinstance(x, types.FunctionType)\ng = types.FunctionType(h.__code__, h.__globals__)",
        "globals()['x'] = 1\ncfg['eval'](model)\ngetattr(model, 'eval')()\nself.exec(s)",
        "log = open(Path(__file__).parent / 'log.txt', 'w')\n(Path(__file__).parent / 'm.ptz').write_bytes(data)",
        "(out / Path(__file__).name).write_text(open(__file__, 'r').read())",
        "import os\nlog = open(os.path.join(os.path.dirname(__file__), 'log'), 'w')\nos.replace(f'{__file__}.x', 'a')",
    ],
)
def test_what_honest_scripts_do_is_no_sign(text: str) -> None:
    assert told(text) == []


def test_the_shipped_scripts_have_no_sign() -> None:
    for path in ("trainer/train_gpt.py", "tests/candidates/honest.py"):
        assert static.of_text((ROOT / path).read_text("utf-8")) == (), path


def test_an_edit_answers_for_what_it_adds_alone() -> None:
    before = "import requests\nimport pickle\n"
    assert static.new(before, f"# longer\n\n{before}") == []
    added = static.new(before, f"{before}x = pickle.load(f)\nimport httpx\n")
    assert [one.name for one in added] == ["unpickles", "network_import"]
    twice = static.new("bytes_per_token = 2\n", "bytes_per_token = 2\nbytes_per_token = 2\n")
    assert [one.name for one in twice] == ["fixed_bytes"]


@pytest.mark.parametrize(("text", "many"), [("a{n} = '{x}'\n", 1_200), ("# {x}\nb = __file__\n", 500)])
def test_of_what_is_counted_over_a_script_an_edit_answers_for_what_it_adds(text: str, many: int) -> None:
    before = "".join(text.format(n=n, x="x" * 60) for n in range(many))
    (sign,) = static.of_text(before)
    assert sign.size > 60 * many
    assert static.new(before, f"{before}y = '{'y' * 900}'\n") == []
    assert [one.name for one in static.new(before, before + text.format(n=many, x="y" * 1_990) * 2)] == [sign.name]
    assert [one.name for one in static.new("x = 1\n", before)] == [sign.name]


def test_docstrings_are_counted_though_the_tree_was_looked_at_before() -> None:
    text = f"def f(a):\n    {PROSE * 401!r}\n    if a:\n        1\n        {PROSE * 402!r}\nTEXT = f.__doc__\n"
    syntax.read("s.py", text)
    assert told(text) == [(1, "invalid", "long_literal")] * 2


def test_code_that_nobody_can_read_is_the_same_where_it_was_moved_to() -> None:
    before = "exec(input())\nimport os\nA = eval(os.environ['A'])\n"
    assert [one.line for one in static.of_text(before)] == [1, 3]
    assert static.new(before, f"x = 1\n{before}") == []


def test_a_reviewers_flag_becomes_a_finding_of_the_runs() -> None:
    from agent.judge.rules.signs import findings

    (one,) = static.of_text("import sys\nif loss > 2:\n sys.exit()\n")
    flags = ["free edit: changes more than declared knobs", one.risk("a/train.py"), "rule 3, x: not ours"]
    assert findings(flags) == (Finding("ends_by_loss", "flag", one.words),)
