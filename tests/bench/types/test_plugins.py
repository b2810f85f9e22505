"""Whatever a plug-in raises is told as the plug-in's, with its file and line; nothing that is only read can be one."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from places import SUPPORT
from report_runs import run as run_by_hand

from bench.cli import main
from bench.data.installed import installed_dataset
from bench.report.formats.thumbnails import thumbnails
from bench.runs.certify import ImageCertifier
from bench.runs.registry import dataset, method
from bench.runs.store import read_run
from bench.testing.fakes import ToyImages
from bench.types.errors import MethodError, PluginError
from bench.types.plugins import blame, plugin_errors

HOW = {
    "raise ValueError('odd')": "ValueError: odd",
    "raise SystemExit('bye')": "SystemExit: bye",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise GeneratorExit": "GeneratorExit",
    "raise StopIteration": "StopIteration",
    "raise BaseException('base')": "BaseException: base",
    "raise OSError(28, 'no space')": "OSError",
    "raise MemoryError": "MemoryError",
    "raise Mute": "Mute: (whose message raises SystemExit)",
    "fall()": "RecursionError",
    "import torch; torch.zeros(3) @ torch.zeros(4)": "RuntimeError",
    "import json; json.loads('{')": "JSONDecodeError",
}
PLUGIN = """
from bench.types import Method
class Mute(Exception):
    def __str__(self): raise SystemExit(3)
def fall(): fall()
class Net:
    num_classes = 10
    def predict(self, x, noise):
        HERE
ODD = Method(name="odd", title="", cite="", build=lambda s: Net())
"""


def write(folder: Path, how: str) -> str:
    (folder / "odd.py").write_text(PLUGIN.replace("HERE", how))
    return f"{folder / 'odd.py'}:ODD"


def run(name: str, out: Path) -> tuple[str, ...]:
    return (
        *("run", "--methods", name, "--dataset", "digits", "--sigma", "0.5", "--n0", "10", "--n", "100"),
        *("--subset", "first:1", "--out", str(out)),
    )


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str]:
    monkeypatch.setattr(sys, "argv", ["rrcm-bench", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code, capsys.readouterr().err


@pytest.mark.parametrize("how", HOW)
def test_what_a_method_raises_is_told_with_its_file_and_line(tmp_path: Path, how: str, monkeypatch, capsys) -> None:
    code, said = call(monkeypatch, capsys, *run(write(tmp_path, how), tmp_path / "out"))
    assert code == 1
    last = said.splitlines()[-1]
    assert HOW[how] in last
    assert f"{str(tmp_path / 'odd.py')!r} line " in last
    assert "internal error" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("what", ["import sys; sys.exit('at import')", "1 / 0", "raise KeyboardInterrupt"])
def test_what_a_module_raises_on_import_is_told(tmp_path: Path, what: str, monkeypatch, capsys) -> None:
    (tmp_path / "odd.py").write_text(what)
    code, said = call(monkeypatch, capsys, *run(f"{tmp_path / 'odd.py'}:ODD", tmp_path / "out"))
    assert code == 1
    assert "odd.py' line 1 raised" in said


def test_a_module_beside_a_plugin_is_the_plugins(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "beside_a_plugin.py").write_text("def fail():\n    raise ValueError('beside')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = method(write(tmp_path, "import beside_a_plugin; beside_a_plugin.fail()"))
    with (
        pytest.raises(PluginError, match=r"beside_a_plugin.py' line 2 in fail raised ValueError: beside"),
        plugin_errors(),
    ):
        found.build(None).predict(None, None)  # type: ignore[arg-type]


def test_a_failure_of_ours_and_ctrl_c_are_no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bench.types.plugins._folders", set
    )  # whichever plug-ins other tests have loaded from files beside this one
    with pytest.raises(ZeroDivisionError), plugin_errors():
        replace(1 / 0)  # type: ignore[type-var]
    with pytest.raises(KeyboardInterrupt), plugin_errors():
        raise KeyboardInterrupt
    with pytest.raises(MethodError, match="on purpose"), plugin_errors():
        raise MethodError("on purpose")
    assert blame(ValueError("never raised")) is None


def test_a_methods_own_stop_iteration_ends_no_run() -> None:
    class Stops:
        num_classes = 2

        def predict(self, x, noise):
            raise StopIteration

    toys = ToyImages(2, (1, 4, 4))
    worker = ImageCertifier(spec=run_by_hand([]).spec, classifier=Stops(), dataset=toys, device="cpu", batch=8)
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(worker.rows([0, 1]))


def test_no_name_in_a_stored_file_imports_code(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    toy = SUPPORT / "toy_method.py"
    assert call(monkeypatch, capsys, *run(f"{toy}:TOY", Path("runs")))[0] == 0
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('executed').touch()\nD = None\n")
    (folder,) = (tmp_path / "runs").iterdir()
    for field in ("dataset", "method"):
        record = json.loads((folder / "run.json").read_text())
        record.pop("seal")
        record["spec"][field] = "evil.py:D"
        made = tmp_path / "stored" / f"{field}-of-a-file"
        made.mkdir(parents=True)
        for rows in folder.glob("rows*"):
            lines = [json.loads(line) for line in rows.read_text().splitlines()]  # as of an older version: unsealed
            made_of = [json.dumps({k: v for k, v in line.items() if k != "seal"}) + "\n" for line in lines]
            (made / rows.name).write_text("".join(made_of))
        spec = replace(read_run(folder).spec, **{field: "evil.py:D"})
        (made / "run.json").write_text(json.dumps({**record, "digest": spec.digest()}))
    for words in (
        ("report", "--runs", "stored", "--html", "--out", "page"),
        ("report", "--runs", "stored", "--json"),
        ("report", "--runs", "stored", "--table", "3"),
        ("report", "--runs", "stored", "--table", "2"),
        ("runs", "--runs", "stored"),
        ("compare", "stored/dataset-of-a-file", "stored/method-of-a-file", "--overlap"),
    ):
        code, said = call(monkeypatch, capsys, *words)
        assert code in (0, 1), said
        assert "internal error" not in said
    assert not (tmp_path / "executed").exists()
    assert "no installed data set is named" in (tmp_path / "page" / "report.html").read_text()


def test_a_name_that_is_not_installed_is_none() -> None:
    assert installed_dataset("digits") is dataset("digits")
    for name in ("evil.py:D", "digits@0123456789", "", "../digits", "digits\0"):
        assert installed_dataset(name) is None


def test_a_picture_asks_for_no_image_that_is_not_there(tmp_path: Path) -> None:
    from report_runs import row
    from report_runs import run as made

    one = made([1000], subset="first:1")
    outside = replace(one, rows=(row(10**6, 1000), row(-5, 1000)))
    assert "other fingerprints" in thumbnails([outside]).missing
    assert "too large" in thumbnails([replace(one, spec=replace(one.spec, shape=(1, 10**6, 10**6)))]).missing
