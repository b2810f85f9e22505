"""Heavy libraries are imported by those who need them: one process goes through what must do without, in that order."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Each later part may load more than those before it, so that a single process shows them all.
PARTS = {
    "certification": "from bench.certification import bounds, curtailment, operating_characteristic, sequential, "
    "stopping_rule",
    "methods": "import methods.noise_trained, methods.boosting, methods.denoised, methods.rrcm, methods.dds, "
    "methods.densepure, methods.diffsmooth",
    "report": "import bench.report.build",
    "help": "from bench.cli.app import app; app(['--help'], standalone_mode=False)",
    "run": """\
from bench.runs.request import RunRequest, plan
from bench.runs.certify import make_worker
names = ("gaussian", "consistency", "rrcm")
for job in plan(RunRequest(methods=names, dataset="digits", sigmas=(0.5,), limit=1, n=200, alpha=0.1)):
    make_worker(job, "cpu", 8)(job.indices[0])
""",
}
BARRED = {
    "certification": {"torch", "numpy", "scipy"},
    "methods": {"torch", "timm", "diffusers", "numpy"},
    "report": {"torch", "scipy", "numpy", "matplotlib", "pandas", "statsmodels", "rich", "tabulate", "jinja2"},
    "help": {"torch", "scipy", "pandas", "matplotlib", "timm", "diffusers", "sklearn", "statsmodels", "numpy"},
    "run": {
        *("torch._dynamo", "sympy", "timm", "torchvision", "sklearn", "pandas", "statsmodels", "matplotlib"),
        *("torch._inductor", "diffusers"),
    },
}
PROGRAM = """\
import contextlib, json, sys
found = {}
for name, code in json.loads(sys.argv[1]).items():
    with contextlib.redirect_stdout(None):
        exec(code)
    found[name] = list(sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(PARTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_loads_no_heavy_library_that_it_does_not_use(part: str, loaded: dict[str, list[str]]) -> None:
    assert not BARRED[part] & set(loaded[part])
