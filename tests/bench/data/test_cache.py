"""A download is verified, unpacked whole, and happens only when it was allowed."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.data import cifar10
from bench.data.cache import cache_dir, fetch_archive
from bench.types.errors import DataError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
        pass


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Address and md5 of an archive on this machine's own server."""
    (tmp_path / "served").mkdir()
    path = tmp_path / "served" / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("cifar-10-batches-py/test_batch.bin")
        info.size = 3073
        tar.addfile(info, io.BytesIO(b"\x07" + bytes(3072)))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(path.parent)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{path.name}", hashlib.md5(path.read_bytes()).hexdigest()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("RRCM_BENCH_CACHE")
    assert cache_dir().name == "rrcm-bench"


def test_an_allowed_download_ends_in_images(
    tmp_path: Path, archive: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "URL", archive[0])
    monkeypatch.setattr(cifar10, "MD5", archive[1])
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RRCM_BENCH_DOWNLOAD", raising=False)
    with pytest.raises(DataError, match="RRCM_BENCH_DOWNLOAD=1"):
        cifar10.CIFAR10.open(None, None, "test")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv("RRCM_BENCH_DOWNLOAD", "1")
    for _ in range(2):  # the second time from the cache
        assert cifar10.CIFAR10.open(None, None, "test").label(0) == 7
    monkeypatch.delenv("RRCM_BENCH_DOWNLOAD")
    assert cifar10.CIFAR10.open(None, None, "test").label(0) == 7


def test_another_archive_is_refused_and_leaves_nothing(tmp_path: Path, archive: tuple[str, str]) -> None:
    with pytest.raises(DataError, match="could not be fetched") as caught:
        fetch_archive(archive[0], "0" * 32, tmp_path / "cache", "cifar-10-batches-py")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache" / "cifar-10-batches-py").exists()


def test_an_address_that_does_not_answer_is_one_line(tmp_path: Path, archive: tuple[str, str]) -> None:
    with pytest.raises(DataError, match=r"could not be fetched.*404"):
        fetch_archive(archive[0] + ".absent", archive[1], tmp_path / "cache", "cifar-10-batches-py")
