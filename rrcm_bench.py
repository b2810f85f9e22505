"""rrcm-bench from Python: certify any classifier, and read runs and reports as data frames.

    from rrcm_bench import certify

    certificates = certify(model, images, sigma=0.5)   # any callable from (B, C, H, W) pixels in [0, 1] to logits
    certificates.to_pandas()

`certify` and `predict` take one image, a batch or a DataLoader; `load_run` and `load_runs` read run folders; `compare`
pairs two runs image by image; `report` makes the tables. `python -m rrcm_bench` is the command line `rrcm-bench`.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api.certificates import Certificates, ImageCertificate
    from bench.api.certify import Prediction, Predictions, certify, predict
    from bench.api.stored import Paired, Report, StoredRun, compare, load_run, load_runs, report

    __version__: str

_HOME = {
    "Certificates": "certificates",
    "ImageCertificate": "certificates",
    "Prediction": "certify",
    "Predictions": "certify",
    "certify": "certify",
    "predict": "certify",
    "Paired": "stored",
    "Report": "stored",
    "StoredRun": "stored",
    "compare": "stored",
    "load_run": "stored",
    "load_runs": "stored",
    "report": "stored",
}

__all__ = [
    "Certificates",
    "ImageCertificate",
    "Paired",
    "Prediction",
    "Predictions",
    "Report",
    "StoredRun",
    "__version__",
    "certify",
    "compare",
    "load_run",
    "load_runs",
    "predict",
    "report",
]


def __getattr__(name: str) -> Any:
    """What is asked for is imported then: the command line needs none of it.

    Raises: ImportError, one line, where other packages stand before ours.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if shadow := _shadow():
        raise ImportError(shadow)
    if name == "__version__":
        from bench.runs.execution.environment import own_version

        return own_version()
    from importlib import import_module

    found = getattr(import_module(f"bench.api.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _shadow() -> str | None:
    """One line on another package under the name of one of ours, which Python finds first; None without one."""
    for name in ("bench", "methods"):
        ours = Path(__file__).resolve().parent / name / "__init__.py"
        found = find_spec(name)
        origin = found.origin if found is not None else None
        if ours.is_file() and (origin is None or Path(origin).resolve() != ours):
            return (
                f"{origin or name!r} shadows the package {name!r} of rrcm-bench in {str(ours.parent)!r}: "
                f"run from another folder, rename yours, or take its folder from PYTHONPATH"
            )
    return None


def _drop_working_folder() -> None:
    """Let `python -m` not look for packages in the working folder, unless this module itself lies there."""
    here = Path.cwd().resolve()
    if sys.path and Path(sys.path[0]).resolve() == here != Path(__file__).resolve().parent:
        del sys.path[0]


def main() -> None:
    """The command line."""
    if shadow := _shadow():
        print(f"rrcm-bench: {shadow}", file=sys.stderr)
        sys.exit(1)
    from bench.cli import main as command_line

    command_line()


if __name__ == "__main__":
    _drop_working_folder()
    main()
