# Every recipe is one command that also works without just; see README.md.

python := ".venv/bin/python"

# make .venv with everything for work on the code
setup:
    python3 -m venv .venv
    .venv/bin/pip install -q -c constraints.txt -e '.[dev]'

# the embedded default: real digits, three methods, three noise levels
run *words:
    .venv/bin/rrcm-bench run {{words}}

test *words:
    {{python}} -m pytest -n 2 {{words}}

# the suite 20 times, each time in another order, which its seed gives again
shuffle *words:
    for seed in $(seq 1 20); do echo "order $seed"; {{python}} -m pytest -n 2 -p randomly --randomly-seed=$seed {{words}} || exit 1; done

# 10 000 damaged files and odd words: each must be told in one line; takes about 20 minutes
fuzz *words:
    {{python}} -m tests.fuzz --count 10000 --jobs 2 {{words}}

# 500 kills of runs that are resumed: no row may be lost, changed or made twice; takes about 10 minutes
chaos *words:
    {{python}} -m tests.chaos --kills 500 {{words}}

# lint, format, types, layers
lint:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
    .venv/bin/lint-imports

check: lint test

# the documentation as a site, in build/site; any warning is an error
docs:
    .venv/bin/pip install -q -c constraints.txt -e '.[docs]'
    NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

# how near the certifier comes to what this machine can do, and to a plain loop; leaves a record in results/bench
bench *words:
    .venv/bin/rrcm-bench bench {{words}}

# how many photographs a second one core decodes and sends to training
bench-loader:
    {{python}} -m methods.training.loader_speed

# what only a CUDA machine can show, in about ten minutes: records in results/gpu, or in the folder that is given
gpu *out:
    .ci/gpu {{out}}

# the most important of it in under four minutes
gpu-quick *out:
    .ci/gpu --quick {{out}}

report *words:
    .venv/bin/rrcm-bench report {{words}}
