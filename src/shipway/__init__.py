"""Shipway: from a PyTorch model to a deployed engine that is proved right and measured fast.

The names below are the public interface. Each is imported when it is first used, so that importing
shipway loads neither torch nor onnx.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shipway.artifact import Artifact, load_artifact
    from shipway.bench.measure import BenchOptions, bench_sessions
    from shipway.bench.results import BenchResult
    from shipway.compare.diagnose import Diagnoser, diagnose
    from shipway.compare.diagnosis import Diagnosis
    from shipway.compare.metrics import measure
    from shipway.compare.options import DiagnoseOptions
    from shipway.compare.outputs import compare_outputs, compare_sets
    from shipway.compare.results import Comparison, Metrics
    from shipway.compare.sessions import compare_sessions
    from shipway.compare.verdict import Limits, judge, limits_for
    from shipway.deploy.deployment import Deployment, deploy_project
    from shipway.deploy.project import Project, load_project
    from shipway.engines.base import Engine, EngineOptions, Session
    from shipway.engines.opening import compile_target, open_model
    from shipway.engines.registry import engine_names, find_engine
    from shipway.engines.target import Target, parse_target
    from shipway.errors import ShipwayError
    from shipway.evaluate.dataset import Dataset, load_dataset
    from shipway.evaluate.preprocess import Preprocess, parse_preprocess
    from shipway.evaluate.results import Evaluation
    from shipway.evaluate.run import EvaluateOptions, evaluate_session
    from shipway.export.model import export_model, load_portable
    from shipway.export.name_map import NameMap, read_name_map
    from shipway.export.options import ExportOptions
    from shipway.export.portable import PortableModel
    from shipway.ops.defining import custom_op
    from shipway.ops.definition import CustomOp, Sample
    from shipway.proof.export import prove_export
    from shipway.proof.operator import prove_operator
    from shipway.proof.results import Proof
    from shipway.report.data import Report
    from shipway.report.write import read_report, write_report
    from shipway.source.loading import LoadedSource, SourceRequest, load_source
    from shipway.tensorfiles import read_tensors, save_tensors
    from shipway.tensors import TensorSpec, parse_spec, random_feeds
    from shipway.trace.goldens import open_golden
    from shipway.trace.opening import open_tapped
    from shipway.trace.reading import Trace, open_trace
    from shipway.trace.recording import record_session

_HOMES = {
    "artifact": ("Artifact", "load_artifact"),
    "bench.measure": ("BenchOptions", "bench_sessions"),
    "bench.results": ("BenchResult",),
    "compare.diagnose": ("Diagnoser", "diagnose"),
    "compare.diagnosis": ("Diagnosis",),
    "compare.metrics": ("measure",),
    "compare.options": ("DiagnoseOptions",),
    "compare.outputs": ("compare_outputs", "compare_sets"),
    "compare.results": ("Comparison", "Metrics"),
    "compare.sessions": ("compare_sessions",),
    "compare.verdict": ("Limits", "judge", "limits_for"),
    "deploy.deployment": ("Deployment", "deploy_project"),
    "deploy.project": ("Project", "load_project"),
    "engines.base": ("Engine", "EngineOptions", "Session"),
    "engines.opening": ("compile_target", "open_model"),
    "engines.registry": ("engine_names", "find_engine"),
    "engines.target": ("Target", "parse_target"),
    "errors": ("ShipwayError",),
    "evaluate.dataset": ("Dataset", "load_dataset"),
    "evaluate.preprocess": ("Preprocess", "parse_preprocess"),
    "evaluate.results": ("Evaluation",),
    "evaluate.run": ("EvaluateOptions", "evaluate_session"),
    "export.model": ("export_model", "load_portable"),
    "export.name_map": ("NameMap", "read_name_map"),
    "export.options": ("ExportOptions",),
    "export.portable": ("PortableModel",),
    "ops.defining": ("custom_op",),
    "ops.definition": ("CustomOp", "Sample"),
    "proof.export": ("prove_export",),
    "proof.operator": ("prove_operator",),
    "proof.results": ("Proof",),
    "report.data": ("Report",),
    "report.write": ("read_report", "write_report"),
    "source.loading": ("LoadedSource", "SourceRequest", "load_source"),
    "trace.goldens": ("open_golden",),
    "trace.opening": ("open_tapped",),
    "trace.reading": ("Trace", "open_trace"),
    "trace.recording": ("record_session",),
    "tensorfiles": ("read_tensors", "save_tensors"),
    "tensors": ("TensorSpec", "parse_spec", "random_feeds"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Artifact",
    "BenchOptions",
    "BenchResult",
    "Comparison",
    "CustomOp",
    "Dataset",
    "Deployment",
    "DiagnoseOptions",
    "Diagnoser",
    "Diagnosis",
    "Engine",
    "EngineOptions",
    "EvaluateOptions",
    "Evaluation",
    "ExportOptions",
    "Limits",
    "LoadedSource",
    "Metrics",
    "NameMap",
    "PortableModel",
    "Preprocess",
    "Project",
    "Proof",
    "Report",
    "Sample",
    "Session",
    "ShipwayError",
    "SourceRequest",
    "Target",
    "TensorSpec",
    "Trace",
    "bench_sessions",
    "compare_outputs",
    "compare_sessions",
    "compare_sets",
    "compile_target",
    "custom_op",
    "deploy_project",
    "diagnose",
    "engine_names",
    "evaluate_session",
    "export_model",
    "find_engine",
    "judge",
    "limits_for",
    "load_artifact",
    "load_dataset",
    "load_portable",
    "load_project",
    "load_source",
    "measure",
    "open_golden",
    "open_model",
    "open_tapped",
    "open_trace",
    "parse_preprocess",
    "parse_spec",
    "parse_target",
    "prove_export",
    "prove_operator",
    "random_feeds",
    "read_name_map",
    "read_report",
    "read_tensors",
    "record_session",
    "save_tensors",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'shipway' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"shipway.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
