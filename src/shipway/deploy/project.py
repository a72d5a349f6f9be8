"""What a deployment is asked to do: the contents of a ship.toml, or the same from flags."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from shipway.bench.measure import BenchOptions
from shipway.engines.target import GOLDEN, Target, parse_target
from shipway.errors import UsageError
from shipway.export.options import ExportOptions
from shipway.source.loading import SourceRequest
from shipway.source.operators import operator_files
from shipway.tensors import parse_spec

__all__ = [
    "CompareSection",
    "DataSection",
    "Limits",
    "Project",
    "load_project",
    "name_of",
    "read_project",
]

T = TypeVar("T")
_ENDINGS = (".onnx", ".pt2", ".pth", ".pt")


@dataclass(frozen=True, slots=True)
class CompareSection:
    """Inputs for comparing outputs: random sets, and the first samples of the data set."""

    input_sets: int = 3
    samples: int = 16
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DataSection:
    """The data set, and how its samples become inputs."""

    path: Path
    labels: Path | None = None
    preprocess: str = ""
    batch: int = 1
    output: str = ""
    max_bad: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What must hold for the verdict "pass"; None asks nothing. Every engine is held to them.

    Args:
        min_top1: Lowest Top-1 rate of golden, in [0, 1].
        max_top1_drop: Largest loss of Top-1 against golden, in percentage points.
        max_flips: Largest number of samples whose Top-1 class differs from golden's.
        max_relative_l2: Largest relative L2 of any output, for targets of precision f32.
        max_p50_ms: Largest median latency at the first batch size, in milliseconds.
    """

    min_top1: float | None = None
    max_top1_drop: float | None = None
    max_flips: int | None = None
    max_relative_l2: float | None = None
    max_p50_ms: float | None = None

    def __post_init__(self) -> None:
        """Refuse a rate that is a percentage, and what is no limit at all."""
        limits = (self.max_top1_drop, self.max_flips, self.max_relative_l2, self.max_p50_ms)
        for limit in limits:
            if limit is not None and not 0 <= limit < math.inf:
                raise UsageError(f"A limit must be a number of 0 or more, not {limit:g}.")
        if self.min_top1 is not None and not 0 <= self.min_top1 <= 1:
            raise UsageError(
                f"min_top1 is a rate from 0 to 1, not {self.min_top1:g}.",
                hint=f"For {self.min_top1:g} %, write {self.min_top1 / 100:g}.",
            )


@dataclass(frozen=True, slots=True)
class Project:
    """One deployment, complete."""

    name: str
    source: SourceRequest
    export: ExportOptions = field(default_factory=ExportOptions)
    targets: tuple[Target, ...] = ()
    threads: int = 0
    compare: CompareSection = field(default_factory=CompareSection)
    data: DataSection | None = None
    bench: BenchOptions | None = field(default_factory=BenchOptions)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse what makes no sense, and a limit on what is not measured: it would pass unseen."""
        if self.threads < 0:
            raise UsageError(f"threads must be 0 or more, not {self.threads}.")
        if self.data is not None and (self.data.batch < 1 or self.data.max_bad < 0):
            raise UsageError("The batch must be 1 or more, and max_bad 0 or more.")
        limits = self.limits
        accuracy = {
            "min_top1": limits.min_top1,
            "max_top1_drop": limits.max_top1_drop,
            "max_flips": limits.max_flips,
        }
        for name, limit in accuracy.items():
            if limit is not None and self.data is None:
                raise UsageError(
                    f"The limit {name} needs a data set, and there is none.",
                    hint="Give one (--data, or [data] in ship.toml), or leave the limit out.",
                )
        if limits.max_p50_ms is not None and self.bench is None:
            raise UsageError(
                "The limit max_p50_ms needs the benchmark, and it is switched off.",
                hint="Switch it on, or leave the limit out.",
            )


def load_project(path: Path) -> Project:
    """Read a ship.toml. Relative paths in it are relative to its folder.

    Raises:
        UsageError: No such file, not TOML, an unknown or missing key, or a value of the wrong type;
            the message names the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"Cannot read {path}: {error.strerror}.", hint="Give the path of a ship.toml."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error.reason}.") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    return read_project(data, folder=path.parent, label=str(path))


def read_project(data: Mapping[str, Any], *, folder: Path, label: str = "ship.toml") -> Project:
    """Build a project from plain data in the layout of a ship.toml.

    Args:
        data: The parsed file.
        folder: What relative paths are relative to.
        label: Where the data came from, for messages.

    Raises:
        UsageError: As for `load_project`.
    """
    top = _Table(label, "", data)
    model, engines = top.table("model"), top.table("engines")
    source = _read_source(model, folder)
    project = Project(
        name=model.text("name", name_of(source.reference)),
        source=source,
        export=_read_export(top.table("export")),
        targets=tuple(
            model.checked(parse_target, text) for text in engines.texts("targets", ["onnxruntime"])
        ),
        threads=engines.integer("threads", 0, low=0),
        compare=_read_compare(top.table("compare")),
        data=_read_data(top.table("data"), folder) if "data" in data else None,
        bench=_read_bench(top.table("bench")),
        limits=_read_limits(top.table("limits")),
    )
    engines.finish()
    model.finish()
    top.finish()
    _check_targets(project, label)
    return project


def _check_targets(project: Project, label: str) -> None:
    doubled = {str(target) for target in project.targets if project.targets.count(target) > 1}
    if doubled or GOLDEN in project.targets:
        name = ", ".join(sorted(doubled)) or str(GOLDEN)
        why = "twice" if doubled else "but torch is always there, as golden"
        raise UsageError(f"{label}: engines.targets names {name} {why}.", hint="Leave it out.")


def name_of(reference: str) -> str:
    """Return a short name for a source: the stem of its file, or the last part of its module."""
    if reference.endswith(_ENDINGS):
        return Path(reference).stem
    before = reference.partition(":")[0]
    return Path(before).stem if before.endswith(".py") else before.rpartition(".")[2]


def _read_source(table: _Table, folder: Path) -> SourceRequest:
    reference = table.text("source")
    weights = table.text("weights", "")
    file, colon, attribute = reference.partition(":")
    if file.endswith(".py"):
        reference = f"{folder / file}{colon}{attribute}"
    elif reference.endswith(_ENDINGS):
        reference = str(folder / reference)
    return SourceRequest(
        reference=reference,
        arguments=table.mapping("arguments"),
        weights=folder / weights if weights else None,
        inputs=tuple(table.checked(parse_spec, text) for text in table.texts("inputs", [])),
        allow_pickle=table.boolean("allow_pickle", default=False),
        ops=(*(folder / path for path in table.texts("ops", [])), *operator_files()),
    )


def _read_export(table: _Table) -> ExportOptions:
    default = ExportOptions()
    bounds = {}
    for name, value in table.mapping("bounds").items():
        pair = isinstance(value, list) and len(value) == 2
        if not pair or not all(isinstance(item, int) for item in value):
            raise table.error(f"bounds.{name}", "[smallest, largest]", value)
        bounds[name] = (value[0], value[1])
    options = ExportOptions(
        opset=table.integer("opset", default.opset, low=1),
        legacy=table.boolean("legacy", default=default.legacy),
        fold=table.boolean("fold", default=default.fold),
        outputs=tuple(table.texts("outputs", [])),
        bounds=bounds,
        custom_ops=table.text("custom_ops", default.custom_ops),
        custom_ops_domain=table.text("custom_ops_domain", "") or None,
    )
    table.finish()
    return options


def _read_compare(table: _Table) -> CompareSection:
    section = CompareSection(
        input_sets=table.integer("input_sets", 3, low=1),
        samples=table.integer("samples", 16, low=0),
        seed=table.integer("seed", 0, low=0),
    )
    table.finish()
    return section


def _read_data(table: _Table, folder: Path) -> DataSection:
    labels = table.text("labels", "")
    section = DataSection(
        path=folder / table.text("path"),
        labels=folder / labels if labels else None,
        preprocess=table.text("preprocess", ""),
        batch=table.integer("batch", 1, low=1),
        output=table.text("output", ""),
        max_bad=table.integer("max_bad", 0, low=0),
        limit=table.integer("limit", 0, low=0),
    )
    table.finish()
    return section


def _read_bench(table: _Table) -> BenchOptions | None:
    default = BenchOptions()
    enabled = table.boolean("enabled", default=True)
    batches = table.items("batches", list(default.batches))
    if not batches or not all(isinstance(item, int) and item > 0 for item in batches):
        raise table.error("batches", "a list of whole numbers above 0", batches)
    options = BenchOptions(
        batches=tuple(batches),
        min_seconds=table.number("seconds", default.min_seconds, low=0.0),
        min_calls=table.integer("calls", default.min_calls, low=1),
        seed=table.integer("seed", default.seed, low=0),
    )
    table.finish()
    return options if enabled else None


def _read_limits(table: _Table) -> Limits:
    flips = table.optional_integer("max_flips", low=0)
    limits = Limits(
        min_top1=table.optional_number("min_top1", low=0.0),
        max_top1_drop=table.optional_number("max_top1_drop"),
        max_flips=flips,
        max_relative_l2=table.optional_number("max_relative_l2", low=0.0),
        max_p50_ms=table.optional_number("max_p50_ms", low=0.0),
    )
    table.finish()
    return limits


class _Table:
    """One TOML table, read key by key; `finish` complains about keys that nobody read."""

    def __init__(self, label: str, name: str, data: Mapping[str, Any]) -> None:
        self._label = label
        self._name = name
        self._data = data
        self._known: set[str] = set()

    def error(self, key: str, wanted: str, value: Any) -> UsageError:
        """Say that `key` must be `wanted`."""
        path = f"{self._name}.{key}" if self._name else key
        return UsageError(f"{self._label}: {path} must be {wanted}, not {value!r}.")

    def checked(self, read: Callable[[str], T], text: str) -> T:
        """Apply `read`, and put the file's name before what it complains about."""
        try:
            return read(text)
        except UsageError as error:
            raise UsageError(f"{self._label}: {error}", hint=error.hint) from error

    def finish(self) -> None:
        """Complain about the first key that nobody asked for."""
        for key in self._data:
            if key not in self._known:
                path = f"{self._name}.{key}" if self._name else key
                close = get_close_matches(key, self._known, n=1)
                known = ", ".join(sorted(self._known))
                hint = f"Did you mean {close[0]}?" if close else f"Known here: {known}."
                raise UsageError(f"{self._label}: unknown key {path}.", hint=hint)

    def _get(self, key: str, kind: type | tuple[type, ...], wanted: str, default: Any) -> Any:
        self._known.add(key)
        if key not in self._data:
            return default
        value = self._data[key]
        # bool is an int to Python, and `threads = true` is a mistake
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, wanted, value)
        return value

    def table(self, key: str) -> _Table:
        """Return a sub-table, empty when absent."""
        return _Table(self._label, key, self._get(key, dict, "a table", {}))

    def mapping(self, key: str) -> dict[str, Any]:
        """Return a sub-table as it is, empty when absent."""
        return dict(self._get(key, dict, "a table", {}))

    def items(self, key: str, default: list[Any]) -> list[Any]:
        """Return a list."""
        return list(self._get(key, list, "a list", default))

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string; required when there is no default."""
        value = self._get(key, str, "text", default)
        if value is None or (value == "" and default is None):
            path = f"{self._name}.{key}" if self._name else key
            raise UsageError(f"{self._label}: {path} is missing.", hint=f'Add: {key} = "..."')
        return str(value)

    def texts(self, key: str, default: list[str]) -> list[str]:
        """Return a list of strings."""
        values = self._get(key, list, "a list of text", default)
        if not all(isinstance(value, str) for value in values):
            raise self.error(key, "a list of text", values)
        return list(values)

    def boolean(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        return bool(self._get(key, bool, "true or false", default))

    def integer(self, key: str, default: int, *, low: int) -> int:
        """Return a whole number of at least `low`."""
        value = int(self._get(key, int, "a whole number", default))
        if value < low:
            raise self.error(key, f"at least {low}", value)
        return value

    def optional_integer(self, key: str, *, low: int) -> int | None:
        """Return a whole number of at least `low`, or None when absent."""
        self._known.add(key)
        return self.integer(key, low, low=low) if key in self._data else None

    def optional_number(self, key: str, *, low: float | None = None) -> float | None:
        """Return a number, or None when absent."""
        value = self._get(key, (int, float), "a number", None)
        if value is not None and low is not None and value < low:
            raise self.error(key, f"at least {low:g}", value)
        return None if value is None else float(value)

    def number(self, key: str, default: float, *, low: float) -> float:
        """Return a number of at least `low`."""
        value = self.optional_number(key, low=low)
        return default if value is None else value
