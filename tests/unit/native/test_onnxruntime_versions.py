"""One binary in every ONNX Runtime from 1.17 on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from shipway.engines.operator_model import families, make_calls, to_array, write_model
from shipway.native import native_path
from shipway.ops import find_operator

RUNNER = Path(__file__).parent / "run_models.py"
VERSIONS = {"1.17.3": "numpy<2", "1.20.1": "numpy<3", "1.24.4": "numpy<3", "1.31.1": "numpy<3"}
DTYPES = ("float32", "float16", "float64")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model for each operator, dtype and name, with what the float64 reference gives."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("ball_query", "multi_scale_deformable_attn"):
        op = find_operator(name)
        for dtype in DTYPES:
            family = families(op, dtype, make_calls(op, dtype, 0))[0]
            portable, names = write_model(family, folder, opset=17)
            proto = onnx.load(portable.onnx)
            portable.onnx.unlink()
            call = family.calls[0]
            feeds = {
                f"in {key}": to_array(one) for key, one in zip(names, call.tensors, strict=True)
            }
            golden = {f"out output_{at}": value for at, value in enumerate(call.golden)}
            aliases = [(op.namespace, 17), *((alias.domain, 11) for alias in op.aliases)]
            for domain, opset in aliases:
                next(n for n in proto.graph.node if n.name == "operator").domain = domain
                del proto.opset_import[:]
                versions = {"": opset, domain: 1} if domain else {"": opset}
                proto.opset_import.extend(
                    onnx.helper.make_opsetid(*one) for one in versions.items()
                )
                stem = f"{domain or 'default'}-{name}-{dtype}"
                onnx.save(proto, folder / f"{stem}.onnx")
                np.savez(folder / f"{stem}.npz", **feeds, **golden)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_the_library_runs_in(version, models, tmp_path):
    """Own domain, npu and the default one; three dtypes; two threads."""
    if native_path() is None:
        pytest.skip("Shipway was installed without its native library")
    target = tmp_path / "site"
    command = (
        "pip",
        "install",
        "--quiet",
        "--target",
        target,
        f"onnxruntime=={version}",
        VERSIONS[version],
    )
    installed = subprocess.run(
        [sys.executable, "-m", *map(str, command)], capture_output=True, text=True, check=False
    )
    assert installed.returncode == 0, installed.stderr
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(native_path()), str(models)],
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    assert lines[0] == ["version", version]
    assert len(lines) == 1 + len(list(models.glob("*.onnx")))
    for stem, error in lines[1:]:
        op, dtype = find_operator(stem.split("-")[1]), stem.split("-")[2]
        assert float(error) <= op.tolerance(dtype), (stem, error)
