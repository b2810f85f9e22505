"""What a study says of its weights: images seen and FLOP with all parents, and entries of a catalogue."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from places import PROJECT

from bench.cli import study_budget
from bench.cli.study_budget import Budget, budgets, count_flops
from bench.cli.study_file import read_study
from bench.cli.weights_show import RECORD
from bench.weights.catalogue import entry_of, rows_of

WEIGHTS = PROJECT / "methods" / "pretrained" / "digits"
STUDY = """dataset = "digits"
catalogue = "mine/digits"

[[train]]
name = "base"
method = "gaussian"
sigma = [0.25, 0.5]
set = { batch = 32, steps = 7 }

[[train]]
name = "tuned"
method = "consistency"
sigma = 0.5
init = "stage:base"
set = { batch = 16, steps = 3 }

[[run]]
name = "gaussian"
methods = "gaussian"
sigma = [0.25, 0.5]
weights = { network = "stage:base" }

[[run]]
name = "warm"
methods = "consistency"
sigma = 0.5
weights = { network = "stage:tuned" }

[[run]]
name = "unlisted"
listed = false
methods = "gaussian"
sigma = 0.25
weights = { network = "stage:base-s0.50" }
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    folder = tmp_path / "study" / "weights"
    folder.mkdir(parents=True)
    for name, of in (
        ("base-s0.25", "gaussian-0.25"),
        ("base-s0.50", "gaussian-0.50"),
        ("tuned-s0.50", "consistency-0.50"),
    ):
        shutil.copy(WEIGHTS / f"{of}.safetensors", folder / f"{name}.safetensors")
    return path


def test_a_row_is_charged_with_its_networks_parents(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
import json, sys
said = dict(word.split("=") for word in sys.argv if "=" in word)
settings = {"batch": int(said["batch"]), "copies": 2 if "consistency" in sys.argv else 1}
print(json.dumps({"method": "", "stage": "", "preset": "", "parameters": 1, "steps": int(said["steps"]),
                  "flops_per_image": 1000 * settings["copies"], "settings": settings}))
"""
    monkeypatch.setattr(study_budget, "own_command", lambda words: [sys.executable, "-c", script, *words])
    made = read_study(study, None, None)
    for weights in (study.parent / "study" / "weights").iterdir():
        weights.unlink()
    assert budgets(made) == {}
    count_flops(made, [item for item in made.items if item.trains])
    found = budgets(made)
    assert found["base-s0.50"] == Budget(images=7 * 32, copies=7 * 32, flops=7000.0 * 32)
    assert found["run gaussian-s0.25"] == found["base-s0.25"] == found["base-s0.50"]
    whole = Budget(images=7 * 32 + 3 * 16, copies=7 * 32 + 2 * 3 * 16, flops=7000.0 * 32 + 6000.0 * 16)
    assert found["run warm-s0.50"] == found["tuned-s0.50"] == whole
    assert Budget(images=1, flops=None) + Budget(images=2, flops=3.0) == Budget(images=3, flops=None)
    # Weights that do not say how they were made are not charged by what the file says now.
    shutil.copy(WEIGHTS / "gaussian-0.50.safetensors", made.weights("base-s0.50"))
    assert budgets(made).keys() == {"base-s0.25", "run gaussian-s0.25"}


def test_a_table_of_costs_has_what_is_trained_and_names_what_is_not(cli, study: Path) -> None:
    def trained(name: str, steps: int, flops: float) -> None:
        settings = {"batch": 32, "copies": 2 if name.startswith("tuned") else 1}
        said = json.dumps({"__metadata__": {RECORD: json.dumps({"steps": steps, "settings": settings})}}).encode()
        made.weights(name).write_bytes(len(said).to_bytes(8, "little") + said)
        counted = study_budget._count_path(made, next(item for item in made.items if item.name == name))
        counted.parent.mkdir(exist_ok=True)
        counted.write_text(json.dumps({"steps": steps, "settings": settings, "flops_per_image": flops}))

    made = read_study(study, None, None)
    trained("base-s0.25", 7, 1e9)
    trained("base-s0.50", 70, 1e9)
    trained("tuned-s0.50", 30, 2e9)
    made.weights("base-s0.25").unlink()
    found = cli("study", study, "--budget", study.parent / "costs.md")
    assert found.code == 0, found.err
    text = (study.parent / "costs.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    rows = {cells[0]: cells[1:] for cells in cells}
    assert rows["gaussian-s0.50"] == ["base-s0.50", "2 240", "2 240", "2.24e+12", "1.00"]
    # 2240 images and copies of its parent, 960 images of 2 copies: 2.24e12 + 1.92e12, of 2.24e12.
    assert rows["warm-s0.50"] == ["base-s0.50, tuned-s0.50", "3 200", "4 160", "4.16e+12", "1.86"]
    assert rows["tuned-s0.50"] == rows["warm-s0.50"]
    assert "gaussian-s0.25" not in rows
    assert "Not trained yet: base-s0.25, run gaussian-s0.25." in text
    shutil.rmtree(study.parent / "study")
    none = cli("study", study, "--budget", study.parent / "none.md")
    assert none.code == 2
    assert "no weights in" in none.err
    assert not (study.parent / "none.md").exists()


def test_one_command_lists_a_studys_weights_and_makes_them_defaults(cli, study: Path) -> None:
    catalogue = study.parent / "package" / "weights.toml"
    catalogue.parent.mkdir()
    head = '# a comment\n\n[[weights]]\nname = "theirs"\nmethod = "gaussian"\nrole = "network"\ndataset = "digits"\n'
    catalogue.write_text(head + "sigma = 0.25\n" + head.replace("theirs", "mine/digits/gaussian/0.50"))
    found = cli("study", study, "--catalogue", catalogue)
    assert found.code == 0, found.err
    text = catalogue.read_text()
    rows = {row["name"]: row for row in rows_of("it", catalogue)}
    assert list(rows) == ["theirs", "mine/digits/gaussian/0.25", "mine/digits/gaussian/0.50", "mine/digits/warm/0.50"]
    assert "# a comment" in text
    assert rows["theirs"]["default"] is False  # it has no file
    entries = {name: entry_of("it", row, catalogue.parent) for name, row in rows.items()}
    assert entries["mine/digits/gaussian/0.50"].default
    assert not entries["mine/digits/warm/0.50"].default
    assert entries["mine/digits/gaussian/0.50"].params["arch"] == "digits_resnet"
    for entry in list(entries.values())[1:]:
        file = catalogue.parent / str(entry.file)
        assert file.stat().st_size == entry.bytes
    assert cli("study", study, "--catalogue", catalogue).code == 0
    assert tomllib.loads(catalogue.read_text()) == tomllib.loads(text)
    study.write_text(STUDY.replace("mine/digits", "other"))
    before = catalogue.read_text()
    found = cli("study", study, "--catalogue", catalogue)
    assert found.code == 2
    assert "is the file of 'mine/digits/gaussian/0.25'" in found.err
    assert catalogue.read_text() == before
    study.write_text(STUDY.replace('catalogue = "mine/digits"', ""))
    found = cli("study", study, "--catalogue", catalogue)
    assert found.code == 2
    assert "no catalogue" in found.err
