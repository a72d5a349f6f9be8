"""Turn the finished stages of a deployment into its report: checks first, then the evidence."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shipway.artifact import load_artifact
from shipway.compare.results import read_number
from shipway.deploy.journey import Journey
from shipway.deploy.project import Limits
from shipway.engines.target import Target
from shipway.environment import describe_environment
from shipway.files import read_json
from shipway.report.data import Check, EngineSection, Report
from shipway.report.output_error import worst_relative_l2

__all__ = ["build_report"]


def build_report(journey: Journey, command: list[str]) -> Report:
    """Read the stages' results back from their files and judge them.

    Args:
        journey: A journey that `travel` returned.
        command: The command line of the whole deployment.
    """
    golden, targets = journey.golden, journey.project.targets
    proof = _read(journey, "proof", "proof.json")
    bench = _read(journey, "bench", "bench.json") or []
    sections = [_section(journey, golden, bench, is_golden=True)]
    sections += [_section(journey, target, bench) for target in targets]
    return Report(
        title=journey.project.name,
        created=max(stage.finished for stage in journey.stages.values()),
        model=_describe_model(journey),
        proof=proof,
        checks=(*_checks(journey.project.limits, proof, sections), *_bench_check(journey)),
        engines=tuple(sections),
        notes=tuple(_notes(journey, sections)),
        environment=describe_environment(),
        reproduce=_reproduce(journey, command),
    )


def _read(journey: Journey, stage: str, file: str) -> Any:
    return read_json(journey.path(stage) / file) if stage in journey.stages else None


def _section(
    journey: Journey, target: Target, bench: list[dict[str, Any]], *, is_golden: bool = False
) -> EngineSection:
    rows = tuple(row for row in bench if row["engine"] == str(target))
    stage = "evaluate-golden" if is_golden else f"evaluate-{target.slug}"
    evaluation = _read(journey, stage, "evaluation.json")
    failure = journey.failures.get(target)
    effective = evaluation["effective"] if evaluation else rows[0]["effective"] if rows else {}
    return EngineSection(
        name=target.title,
        precision=target.precision,
        golden=is_golden,
        effective=effective,
        artifact=_describe_artifact(journey, target),
        comparison=None
        if is_golden
        else _read(journey, f"compare-{target.slug}", "comparison.json"),
        evaluation=evaluation,
        bench=rows,
        error="" if failure is None else str(failure),
    )


def _describe_artifact(journey: Journey, target: Target) -> dict[str, Any]:
    artifact = journey.artifacts.get(target)
    if artifact is None:
        return {}
    files = read_json(artifact.sidecar)["files"]
    stage = journey.stages[journey.engine_stage(target)]
    return {
        "file": os.path.relpath(artifact.path, journey.folder.path),
        "size_bytes": sum(entry["size_bytes"] for entry in files.values()),
        "sha256": files[artifact.path.name]["sha256"],
        "compile_seconds": stage.seconds,
    }


def _describe_model(journey: Journey) -> dict[str, Any]:
    model = journey.model
    described: dict[str, Any] = {
        "source": journey.project.source.reference,
        "inputs": [spec.to_json() for spec in model.inputs],
        "outputs": [spec.to_json() for spec in model.outputs],
    }
    if model.onnx is not None:
        artifact = load_artifact(model.onnx, verify=False)
        files = read_json(artifact.sidecar)["files"]
        described |= {
            key: artifact.made[key]
            for key in ("parameters", "opset", "onnx_nodes", "name_map_coverage")
            if key in artifact.made
        }
        described["size_bytes"] = sum(entry["size_bytes"] for entry in files.values())
        described["sha256"] = files[model.onnx.name]["sha256"]
    return described


def _checks(
    limits: Limits, proof: dict[str, Any] | None, sections: list[EngineSection]
) -> Iterator[Check]:
    if proof is not None:
        yield Check("export: ONNX equals PyTorch", proof["passed"], _proof_detail(proof))
    golden = sections[0].evaluation
    if golden is not None and limits.min_top1 is not None:
        rate = golden["top"][0]["rate"]
        passed = rate >= limits.min_top1
        yield Check(
            "golden: Top-1", passed, _percent(rate), f"at least {_percent(limits.min_top1)}"
        )
    for section in sections[1:]:
        if section.error:
            yield Check(f"{section.label}: runs", passed=False, detail=section.error)
        yield from _error_checks(limits, section)
        yield from _accuracy_checks(limits, golden, section)
    for section in sections[1:]:
        yield from _speed_checks(limits, section)


def _bench_check(journey: Journey) -> Iterator[Check]:
    if journey.bench_failure is not None:
        yield Check("benchmark: runs", passed=False, detail=str(journey.bench_failure))


def _proof_detail(proof: dict[str, Any]) -> str:
    worst = read_number(proof["worst_relative_l2"])
    found = "no output to measure" if worst is None else f"worst relative L2 {worst:.2e}"
    reasons = dict.fromkeys(
        reason for trial in proof["trials"] for reason in _reasons(trial["comparison"])
    )
    false = [_finding(one) for one in proof.get("findings", ()) if one["severity"] == "error"]
    return found if proof["passed"] else "; ".join([found, *reasons, *false])


def _finding(finding: dict[str, Any]) -> str:
    source = finding["place"]["source"]
    return f"{finding['message']} At {source}" if source else finding["message"]


def _reasons(comparison: dict[str, Any]) -> list[str]:
    reasons = [
        f"{item['name']}: {reason}"
        for item in comparison["outputs"]
        for reason in item["verdict"]["reasons"]
    ]
    return [
        *reasons,
        *(f"{name}: {why}" for name, why in comparison["coverage"]["skipped"].items()),
    ]


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def _error_checks(limits: Limits, section: EngineSection) -> Iterator[Check]:
    comparison = section.comparison
    if comparison is None:
        return
    worst = worst_relative_l2(comparison)
    reasons = _reasons(comparison)
    found = "" if worst is None else f"relative L2 {worst:.2e}"
    detail = "; ".join(reasons) or found or "equal"
    yield Check(f"{section.label}: outputs equal golden", comparison["passed"], detail)
    limit = limits.max_relative_l2
    if limit is not None and section.precision == "f32" and worst is not None:
        yield Check(
            f"{section.label}: relative L2",
            worst <= limit,
            f"{worst:.2e}",
            f"at most {limit:g}",
        )


def _accuracy_checks(
    limits: Limits, golden: dict[str, Any] | None, section: EngineSection
) -> Iterator[Check]:
    evaluation = section.evaluation
    if evaluation is None or golden is None or evaluation["flips"] is None:
        return
    flips = evaluation["flips"]
    if limits.max_flips is not None:
        yield Check(
            f"{section.label}: flips against golden",
            flips["count"] <= limits.max_flips,
            f"{flips['count']} of {flips['compared']}",
            f"at most {limits.max_flips}",
        )
    if limits.max_top1_drop is not None:
        drop = 100 * (golden["top"][0]["rate"] - evaluation["top"][0]["rate"])
        yield Check(
            f"{section.label}: Top-1 against golden",
            drop <= limits.max_top1_drop + 1e-9,
            f"{-drop:+.2f} points",
            f"no more than {limits.max_top1_drop:g} points lost",
        )


def _speed_checks(limits: Limits, section: EngineSection) -> Iterator[Check]:
    if limits.max_p50_ms is None or not section.bench:
        return
    p50 = section.bench[0]["latency"]["p50_ms"]
    yield Check(
        f"{section.label}: median latency, batch {section.bench[0]['batch']}",
        p50 <= limits.max_p50_ms,
        f"{p50:.3f} ms",
        f"at most {limits.max_p50_ms:g} ms",
    )


def _notes(journey: Journey, sections: list[EngineSection]) -> Iterator[str]:
    if journey.model.program is None:
        yield (
            "Golden is ONNX Runtime with optimisation off, because there is no torch.export program: "
            f"{_why_no_program(journey)}."
        )
    if journey.project.data is None:
        yield "No data set was given: accuracy is not measured."
    if journey.project.bench is None:
        yield "The benchmark was switched off: speed is not measured."
    noisy = [s.label for s in sections if any(row["noise"] != "quiet" for row in s.bench)]
    if noisy:
        yield f"The machine was noisy while measuring {', '.join(noisy)}: do not rank on latency."


def _why_no_program(journey: Journey) -> str:
    if not journey.from_pytorch:
        return "the source is an ONNX file, and nothing is proved against PyTorch"
    onnx = journey.model.onnx
    made = {} if onnx is None else load_artifact(onnx, verify=False).made
    return str(made.get("program", "torch.export refused the model")).rstrip(".")


def _reproduce(journey: Journey, command: list[str]) -> tuple[str, ...]:
    stages = dict.fromkeys(stage.command for stage in journey.stages.values())
    return (f"cd {shlex.quote(str(Path.cwd()))}", shlex.join(command), *stages)
