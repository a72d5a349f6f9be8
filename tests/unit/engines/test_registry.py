"""Engines are found through entry points; a plug-in that is broken breaks nothing but itself."""

from importlib import metadata
from pathlib import Path

import pytest

from shipway.engines.registry import GROUP, engine_names, find_engine
from shipway.errors import EngineError, UsageError

ENTRY_POINTS = """[shipway.engines]
good = shipway_plugin:Engine
no-module = shipway_plugin_absent:Engine
no-class = shipway_plugin:Absent
broken-import = shipway_plugin_broken:Engine
broken-start = shipway_plugin:Broken
"""
PLUGIN = """
class Engine:
    name = "good"

class Broken:
    def __init__(self):
        raise RuntimeError("license expired")
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with one good engine and four broken ones."""
    info = tmp_path / "shipway_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shipway-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "shipway_plugin.py").write_text(PLUGIN)
    (tmp_path / "shipway_plugin_broken.py").write_text("import driver_that_is_absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_four_engines_of_shipway_are_registered():
    assert {"torch", "onnxruntime", "openvino", "aotinductor"} <= set(engine_names())
    assert list(engine_names()) == sorted(engine_names())


def test_an_engine_of_another_package_is_found_by_its_entry_point(plugin: Path):
    assert {"good", "no-module"} <= set(engine_names())
    assert find_engine("good").name == "good"
    assert find_engine("good") is not find_engine("good")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no-module", "No module named 'shipway_plugin_absent'"),
        ("no-class", "has no attribute 'Absent'"),
        ("broken-import", "No module named 'driver_that_is_absent'"),
        ("broken-start", "license expired"),
    ],
)
def test_a_broken_plug_in_is_named_with_its_reason_and_the_others_still_load(
    plugin: Path, name: str, reason: str
):
    with pytest.raises(
        EngineError, match=f"The engine '{name}' .*shipway_plugin.* does not load"
    ) as caught:
        find_engine(name)
    assert reason in str(caught.value)
    assert "shipway doctor" in caught.value.hint
    assert find_engine("good").name == "good"


def test_an_unknown_engine_lists_those_there_are():
    with pytest.raises(UsageError, match="Unknown engine 'tensorflow'") as caught:
        find_engine("tensorflow")
    assert "onnxruntime, openvino" in caught.value.hint


def test_the_entry_points_of_shipway_point_at_classes_of_its_own():
    points = [
        point
        for point in metadata.entry_points(group=GROUP)
        if point.dist and point.dist.name == "shipway"
    ]
    assert len(points) == 4
    assert all(point.value.startswith("shipway.engines.") for point in points)
