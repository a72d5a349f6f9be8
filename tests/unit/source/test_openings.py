"""files_read: what the user's code reads while it runs."""

from pathlib import Path

import torch

from shipway.source.openings import files_read


def test_what_is_read_is_found_and_what_is_written_is_not(tmp_path: Path) -> None:
    weights, written = tmp_path / "w.pth", tmp_path / "log.txt"
    torch.save({"x": torch.zeros(2)}, weights)
    with files_read() as found:
        torch.load(weights, weights_only=True)
        written.write_text("x")
    assert found == [weights]


def test_nothing_is_noticed_outside_the_block_or_of_installed_packages(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x")
    with files_read() as found:
        Path(torch.__file__).read_bytes()
    path.read_text()
    assert found == []
