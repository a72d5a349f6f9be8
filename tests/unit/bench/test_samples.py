"""Raw samples in files."""

import numpy as np
import pytest

from shipway.bench.results import BenchResult
from shipway.bench.samples import save_samples
from shipway.bench.statistics import summarize_latency
from shipway.errors import OutputError


def result(engine, samples, batch=1):
    latency = summarize_latency(samples)
    kept = np.array(samples, np.int64)
    return BenchResult(
        engine, batch, latency, 0.0, 0.0, 1, True, "quiet", 1, {}, 0.0, 0.0, samples_ns=kept
    )


def test_every_call_is_written_in_its_order(tmp_path):
    paths = save_samples([result("torch", [3, 1, 2]), result("torch", [5], 8)], tmp_path / "raw")
    assert [path.name for path in paths] == ["torch-batch1.npy", "torch-batch8.npy"]
    np.testing.assert_array_equal(np.load(paths[0]), [3, 1, 2])
    assert np.load(paths[0]).dtype == np.int64


def test_names_no_file_can_have_do_not_collide(tmp_path):
    names = ["onnxruntime a/b.onnx", "onnxruntime a_b.onnx", "../x"]
    paths = save_samples([result(name, [1]) for name in names], tmp_path)
    assert len(set(paths)) == 3
    assert {path.parent for path in paths} == {tmp_path}


def test_a_result_without_samples_gets_no_file(tmp_path):
    bare = BenchResult("a", 1, summarize_latency([1]), 0.0, 0.0, 1, True, "quiet", 1, {}, 0.0, 0.0)
    assert save_samples([bare], tmp_path) == []


def test_a_place_that_cannot_be_written_to_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        save_samples([result("a", [1])], tmp_path / "file")


def test_results_with_samples_compare_by_what_was_found():
    assert result("a", [1, 2]) == result("a", [1, 2])
    assert "samples_ns" not in repr(result("a", [1]))
