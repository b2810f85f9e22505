"""`python -m bench` is `rrcm-bench`; where a folder here is called bench too, `python -m rrcm_bench` is."""

import sys
from pathlib import Path

# Python looks in the working folder first, where `methods` may be another's.
if sys.path and Path(sys.path[0]).resolve() == Path.cwd().resolve() != Path(__file__).resolve().parents[1]:
    del sys.path[0]

from bench.cli import main

if __name__ == "__main__":
    main()
