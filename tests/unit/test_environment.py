"""The machine's description: real values, plain data, nothing heavy imported for it."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from shipway.environment import (
    describe_environment,
    load_average,
    package_version,
    package_versions,
    usable_cores,
)


def test_versions_are_the_installed_ones_and_absent_packages_are_left_out():
    versions = package_versions()
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == np.__version__
    assert versions["shipway"] == importlib.metadata.version("shipway")
    assert all(versions.values())
    assert package_version("no-such-distribution") == ""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_cores_count_those_this_process_may_use():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from shipway.environment import usable_cores; print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


def test_the_load_is_a_number_of_processes():
    assert load_average() >= 0


def test_the_description_is_plain_data_about_this_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("SECRET_TOKEN", "do not tell")
    found = describe_environment()
    assert json.loads(json.dumps(found)) == found
    assert found["cpu"]
    assert found["memory_bytes"] > 2**28
    assert found["thread_variables"]["OMP_NUM_THREADS"] == "3"
    assert "do not tell" not in json.dumps(found)


def test_describing_imports_no_engine():
    code = (
        "import sys; from shipway.environment import describe_environment; describe_environment();"
        "print({'torch', 'onnx', 'onnxruntime', 'openvino'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
