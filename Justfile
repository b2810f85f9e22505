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

# lint, format, types, layers
lint:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
    .venv/bin/lint-imports

check: lint test

# how near the certifier comes to what this machine can do, and to a plain loop; leaves a record in results/bench
bench *words:
    .venv/bin/rrcm-bench bench {{words}}

# what only a CUDA machine can show
gpu:
    {{python}} -m pytest -m gpu
    .venv/bin/rrcm-bench bench --device cuda:0 --precision bf16
    .venv/bin/rrcm-bench bench --device cuda:0 --precision bf16 --compile
    .venv/bin/rrcm-bench run --device cuda:0 --out results/runs-cuda
    .venv/bin/rrcm-bench latency --table 1 --random-weights --device cuda:0 --budget 900 --precision fp32 --out results/latency/cuda.jsonl
    .venv/bin/rrcm-bench latency --table 1 --random-weights --device cuda:0 --budget 900 --precision bf16 --batch auto --out results/latency/cuda.jsonl
    .venv/bin/rrcm-bench latency --table 2 --random-weights --device cuda:0 --budget 900 --precision fp32 --out results/latency/cuda.jsonl

report *words:
    .venv/bin/rrcm-bench report {{words}}
