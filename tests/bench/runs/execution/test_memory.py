"""The memory of a pass stays with the process, so that the next pass does not fetch it page by page."""

from __future__ import annotations

import subprocess
import sys

import pytest

PAGES = """
import resource, sys
import torch
from bench.runs.execution.memory import keep_memory
if sys.argv[1] == "kept" and not keep_memory():
    sys.exit(3)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def blocks():
    kept = [torch.ones(1 << 20) for _ in range(16)]  # 4 MiB each, as a pass has: freed together
for _ in range(3):
    blocks()
before = faults()
for _ in range(10):
    blocks()
print(faults() - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PAGES, how], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode == 3:
        pytest.skip("no glibc here")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_freed_memory_is_not_fetched_again() -> None:
    # 160 blocks of 1024 pages each, touched anew: none of them, where the process keeps them.
    assert page_faults("kept") < 1024
