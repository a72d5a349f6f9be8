"""Writing files: whole or not at all, whatever happens; and reading JSON and hashes."""

import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.errors import ModelError, OutputError
from shipway.files import (
    atomic_folder,
    atomic_path,
    file_sha256,
    make_folder,
    output_errors,
    read_json,
    write_json,
    write_text,
)
from shipway.tensorfiles import save_tensors

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: st.lists(children)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children),
    max_leaves=10,
)  # fmt: skip


def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    yield from mounted(tmp_path / "disk", "size=256k")


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk nobody can write to, root included."""
    yield from mounted(tmp_path / "frozen", "size=64k,ro")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


class TestAtomicPath:
    """One file."""

    def test_the_file_appears_whole_when_the_block_ends(self, tmp_path: Path):
        target = tmp_path / "new folder" / "a.txt"
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            assert not target.exists()
            assert temporary.parent == target.parent
            assert temporary.suffix == ".txt"
        assert target.read_text() == "half"
        assert names(target.parent) == ["a.txt"]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(self, tmp_path, error):
        target = tmp_path / "a.txt"
        target.write_text("old")

        def write_half() -> None:
            with atomic_path(target) as temporary:
                temporary.write_text("half of the n")
                raise error

        with pytest.raises(error):
            write_half()
        assert target.read_text() == "old"
        assert names(tmp_path) == ["a.txt"]

    def test_a_vendor_may_replace_or_lock_the_temporary_file(self, tmp_path: Path):
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.unlink()
            temporary.write_text("written anew")
            temporary.chmod(0o444)
        assert (tmp_path / "a.txt").read_text() == "written anew"

    def test_a_block_that_removes_the_file_is_noticed(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt") as temporary:
            temporary.unlink()
        assert names(tmp_path) == []

    def test_the_umask_decides_who_may_read(self, tmp_path: Path):
        for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
            before = os.umask(mask)
            try:
                write_text(tmp_path / "a.txt", "x")
            finally:
                os.umask(before)
            assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode

    def test_a_folder_in_the_place_of_the_file_is_an_output_error(self, tmp_path: Path):
        (tmp_path / "a.txt").mkdir()
        with pytest.raises(OutputError, match=r"Cannot write .*a\.txt: Is a directory"):
            write_text(tmp_path / "a.txt", "x")
        assert names(tmp_path) == ["a.txt"]

    def test_a_file_in_the_place_of_the_folder_is_an_output_error(self, tmp_path: Path):
        (tmp_path / "file").write_text("x")
        with pytest.raises(OutputError, match=r"Not a directory|File exists"):
            write_text(tmp_path / "file" / "deep" / "a.txt", "x")

    def test_a_name_too_long_for_the_disk_is_an_output_error(self, tmp_path: Path):
        with pytest.raises(OutputError, match="File name too long"):
            write_text(tmp_path / ("a" * 300), "x")
        assert names(tmp_path) == []

    def test_a_read_only_disk_is_an_output_error(self, read_only_disk: Path):
        with pytest.raises(OutputError, match="Read-only file system") as caught:
            write_text(read_only_disk / "a.txt", "x")
        assert "--output" in caught.value.hint
        with pytest.raises(OutputError, match="Read-only file system"):
            write_text(read_only_disk / "deep" / "a.txt", "x")

    def test_writers_at_the_same_time_do_not_mix(self, tmp_path: Path):
        target = tmp_path / "a.txt"
        letters = "abcdefgh"
        threads = [
            threading.Thread(target=lambda each=each: write_text(target, each * 100_000))
            for each in letters
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        text = target.read_text()
        assert text in {each * 100_000 for each in letters}
        assert names(tmp_path) == ["a.txt"]


class TestFullDisk:
    """A disk that fills up while writing."""

    def test_the_old_file_stays_and_the_half_of_the_new_one_goes(self, small_disk: Path):
        write_text(small_disk / "a.txt", "old")
        with pytest.raises(OutputError, match=r"Cannot write .*a\.txt: No space left") as caught:
            write_text(small_disk / "a.txt", "n" * 1_000_000)
        assert "--output" in caught.value.hint
        assert (small_disk / "a.txt").read_text() == "old"
        assert names(small_disk) == ["a.txt"]

    @pytest.mark.parametrize("kind", ["NPY", "BIN", "TXT"])
    def test_tensors_of_every_format(self, small_disk: Path, kind: str):
        with pytest.raises(OutputError, match="No space left"):
            save_tensors({"x": np.zeros(1_000_000)}, small_disk, format_name=kind)
        assert names(small_disk) == []

    def test_a_folder(self, small_disk: Path):
        with atomic_folder(small_disk / "run") as folder:
            (folder / "a.txt").write_text("old")

        def write_more() -> None:
            with atomic_folder(small_disk / "run") as folder:
                (folder / "a.txt").write_text("new")
                (folder / "b.bin").write_bytes(bytes(1_000_000))

        with pytest.raises(OutputError, match="No space left"):
            write_more()
        assert (small_disk / "run" / "a.txt").read_text() == "old"
        assert names(small_disk) == ["run"]

    def test_a_vendor_that_reports_it_in_its_own_way(self, small_disk: Path):
        """torch.save, as others, raises a RuntimeError of its own."""
        torch = pytest.importorskip("torch")
        with (
            pytest.raises(OutputError, match="No space left"),
            atomic_path(small_disk / "w.pth") as temporary,
        ):
            torch.save({"x": torch.zeros(1_000_000)}, temporary)
        assert names(small_disk) == []


class TestAtomicFolder:
    """A folder of files that belong together."""

    def test_the_folder_appears_whole_and_replaces_the_old_one(self, tmp_path: Path):
        for generation in ("one", "two"):
            with atomic_folder(tmp_path / "run") as folder:
                (folder / "sub").mkdir()
                (folder / "sub" / f"{generation}.txt").write_text(generation)
        assert names(tmp_path) == ["run"]
        assert names(tmp_path / "run" / "sub") == ["two.txt"]

    def test_a_block_that_fails_leaves_the_old_folder_and_nothing_else(self, tmp_path: Path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "old.txt").write_text("old")

        def write_half() -> None:
            with atomic_folder(tmp_path / "run") as folder:
                (folder / "new.txt").write_text("new")
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            write_half()
        assert names(tmp_path) == ["run"]
        assert names(tmp_path / "run") == ["old.txt"]

    def test_a_link_to_a_folder_elsewhere_stays_a_link(self, tmp_path: Path):
        (tmp_path / "large disk").mkdir()
        (tmp_path / "run").symlink_to("large disk")
        with atomic_folder(tmp_path / "run") as folder:
            (folder / "a.txt").write_text("x")
        assert (tmp_path / "run").is_symlink()
        assert names(tmp_path / "large disk") == ["a.txt"]

    def test_a_file_in_its_place_is_kept(self, tmp_path: Path):
        (tmp_path / "run").write_text("mine")
        with pytest.raises(OutputError, match="Not a directory"), atomic_folder(tmp_path / "run"):
            pass
        assert (tmp_path / "run").read_text() == "mine"
        assert names(tmp_path) == ["run"]

    @pytest.mark.parametrize("where", [".", "..", ""])
    def test_the_current_folder_is_never_replaced(self, tmp_path: Path, monkeypatch, where: str):
        here = tmp_path / "home" / "work"
        here.mkdir(parents=True)
        (here / "thesis.txt").write_text("ten years")
        monkeypatch.chdir(here)
        with (
            pytest.raises(OutputError, match="it is or holds the current folder"),
            atomic_folder(Path(where)),
        ):
            pass
        assert (here / "thesis.txt").read_text() == "ten years"

    def test_the_umask_decides_who_may_enter(self, tmp_path: Path):
        before = os.umask(0o027)
        try:
            with atomic_folder(tmp_path / "run"):
                pass
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o750


FILE_WRITER = """
import itertools, sys
from pathlib import Path
from shipway.files import write_text
for number in itertools.count():
    write_text(Path(sys.argv[1]), str(number % 10) * 3_000_000)
"""
FOLDER_WRITER = """
import itertools, sys
from pathlib import Path
from shipway.files import atomic_folder
for number in itertools.count():
    with atomic_folder(Path(sys.argv[1])) as folder:
        for name in "abc":
            (folder / name).write_text(str(number % 10) * 300_000)
"""


def kill_while_writing(code: str, target: Path, delay_s: float) -> None:
    """Start a process that writes `target` over and over, and kill it after its first result."""
    process = subprocess.Popen([sys.executable, "-c", code, str(target)])
    try:
        deadline = time.monotonic() + 60
        while not target.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(delay_s)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_process_leaves_the_old_file_or_the_new_one(tmp_path: Path, seed: int):
    target = tmp_path / "a.txt"
    kill_while_writing(FILE_WRITER, target, np.random.default_rng(seed).uniform(0, 0.05))
    text = target.read_text()
    assert len(text) == 3_000_000
    assert text == text[0] * 3_000_000


@pytest.mark.parametrize("seed", range(12))
def test_a_killed_process_leaves_a_whole_folder_or_none(tmp_path: Path, seed: int):
    target = tmp_path / "run"
    kill_while_writing(FOLDER_WRITER, target, np.random.default_rng(seed).uniform(0, 0.05))
    if target.exists():
        texts = [(target / name).read_text() for name in "abc"]
        assert texts == [texts[0][0] * 300_000] * 3
    leftovers = set(names(tmp_path)) - {"run"}
    assert all(name.startswith(".tmp-") for name in leftovers)


class TestErrors:
    """What counts as a failure to write, and what does not."""

    def test_other_errors_pass_unchanged(self, tmp_path: Path):
        with pytest.raises(ValueError, match="mine"), output_errors(tmp_path / "a"):
            raise ValueError("mine")
        with pytest.raises(FileNotFoundError), output_errors(tmp_path / "a"):
            (tmp_path / "absent input").read_text()

    def test_an_output_error_is_not_wrapped_twice(self, tmp_path: Path):
        first = OutputError("first")
        with pytest.raises(OutputError) as caught, output_errors(tmp_path / "a"):
            raise first
        assert caught.value is first

    def test_make_folder_returns_it_and_may_be_called_twice(self, tmp_path: Path):
        assert make_folder(tmp_path / "a" / "b") == make_folder(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").is_dir()

    def test_make_folder_refuses_a_file_in_its_place(self, tmp_path: Path):
        (tmp_path / "a").write_text("x")
        with pytest.raises(OutputError, match="File exists"):
            make_folder(tmp_path / "a")


class TestJson:
    """JSON files."""

    @given(PLAIN)
    def test_plain_data_reads_back(self, tmp_path_factory: pytest.TempPathFactory, data: object):
        path = tmp_path_factory.mktemp("json") / "a.json"
        write_json(path, data)
        assert read_json(path) == data

    def test_it_is_indented_utf8_and_ends_with_a_newline(self, tmp_path: Path):
        write_json(tmp_path / "a.json", {"größe": [1]})
        assert (tmp_path / "a.json").read_bytes() == '{\n  "größe": [\n    1\n  ]\n}\n'.encode()

    def test_nan_is_refused_because_json_has_none(self, tmp_path: Path):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "a.json", {"x": float("nan")})
        assert names(tmp_path) == []

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'a': 1}"])
    def test_what_is_not_json_is_an_error_with_the_files_name(self, tmp_path: Path, content: bytes):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(ModelError, match=r"a\.json is not valid JSON"):
            read_json(tmp_path / "a.json")

    def test_an_absent_file_is_named_with_the_reason(self, tmp_path: Path):
        with pytest.raises(ModelError, match=r"Cannot read .*a\.json: No such file"):
            read_json(tmp_path / "a.json")
        with pytest.raises(ModelError, match="Is a directory"):
            read_json(tmp_path)


class TestHash:
    """SHA-256 of files."""

    @pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (2 << 20) + 5])
    def test_it_is_that_of_the_bytes_however_many_chunks(self, tmp_path: Path, size: int):
        data = np.random.default_rng(size).bytes(size)
        (tmp_path / "a").write_bytes(data)
        assert file_sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path):
        with pytest.raises(ModelError, match=r"Cannot read .*absent"):
            file_sha256(tmp_path / "absent")


def test_importing_it_is_cheap():
    code = "import sys, shipway.files; print({'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
