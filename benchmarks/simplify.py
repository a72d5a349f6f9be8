"""Which simplifier leaves the fewest nodes and still computes the same, and at what cost.

Models: exports of eleven architectures (simplifying/exports.py), with random weights whose vectors are
perturbed, built once into a cache, and every ONNX file of shared/assets/models. Each runs through
onnxsim, onnxslim, onnxscript.optimizer, onnxoptimizer, ONNX Runtime's basic optimizations and
Shipway; onnx.load and onnx.save alone are measured beside them. Every tool and every check is a
process of its own with one thread; simplifying/tools.py says what is measured and
simplifying/judging.py what counts as right. Nodes are those of the graph, its sub-graphs and
functions, Constant nodes left out, which are counted apart.

Marks in the table: `!out` outputs differ, `!chk` the checker rejects the file, `!sig` inputs or outputs
were added, removed or renamed, `!dim` a dynamic dimension was frozen, `!dom` operators of another domain
appeared, `!err` the tool failed, `?` not judged by outputs, because the original does not run here.

The last line is JSON:

- models: how many models Shipway simplified
- nodes_worse: models on which a rival that is right leaves fewer nodes
- wrong_outputs: models on which Shipway gets any mark
- grew: models on which Shipway's file has more nodes, more nodes and Constants together, or more bytes
- cpu_vs_fastest_rival: Shipway's CPU time over a rival's, both summed over the models where that rival is
  right; the largest of these ratios. Import time is not counted
- rss_vs_leanest_rival: the same with the highest peak memory instead of the sum

Run: .venv/bin/python benchmarks/simplify.py [--models GLOB,GLOB] [--tools NAME,NAME] [--rounds N]
Results are kept in the cache as JSON lines, so that a run that was stopped goes on.
"""

import argparse
import fnmatch
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from simplifying.exports import EXPORTS
from simplifying.tools import RIVALS, SHIPWAY, TOOLS

HERE = Path(__file__).resolve().parent
ASSETS = HERE.parents[1] / "shared" / "assets" / "models"
CACHE = Path.home() / ".cache" / "shipway-bench"
TIMEOUT_S = 900
NEEDS = {
    "timm": ("convnext", "deit", "mobilenetv3", "swin"),
    "torchvision": ("resnet50",),
    "transformers": ("bert", "llama"),
}
INSTALL = "pip install --no-deps"  # with a resolver torchvision brings the CUDA build of torch
MARKS = {
    "outputs": "!out",
    "does not run": "!out",
    "checker": "!chk",
    "signature": "!sig",
    "dims": "!dim",
    "domains": "!dom",
    "tool": "!err",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One tool on one model.

    Args:
        model: Name of the model.
        tool: Name of the tool.
        version: Of the tool, and the size of the model: a row is used again while both are the same.
        cpu_s: CPU time of load, simplify and save.
        peak_mb: Highest resident memory of the process, in MiB.
        imports_mb: The same before the model was touched.
        nodes: Nodes left, Constant nodes not counted.
        constants: Constant nodes left.
        bytes: Size of the files written.
        before: The last three of the original.
        error: Largest relative L2 error of an output.
        faults: What is wrong with the result; each begins with a key of MARKS.
        judged: Whether outputs were compared.
    """

    model: str
    tool: str
    version: str
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    imports_mb: float = 0.0
    nodes: int = 0
    constants: int = 0
    bytes: int = 0
    before: dict = field(default_factory=dict)
    error: float = 0.0
    faults: list = field(default_factory=list)
    judged: bool = False

    @property
    def is_right(self):
        return not self.faults

    @property
    def failed(self):
        return any(fault.startswith("tool") for fault in self.faults)

    @property
    def grew(self):
        return not self.failed and (
            self.nodes > self.before["nodes"]
            or self.nodes + self.constants > self.before["nodes"] + self.before["constants"]
            or self.bytes > self.before["bytes"]
        )


def child(module, *arguments):
    """Run a module of this benchmark on one thread; return its line of JSON or how it failed."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", f"simplifying.{module}", *map(str, arguments)]
    try:
        done = subprocess.run(
            command,
            cwd=HERE,
            env=os.environ | threads,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"stopped after {TIMEOUT_S} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return None, f"exit {done.returncode}: {lines[-1][:300]}"
    return (done.stdout.strip().splitlines() or [""])[-1], ""  # some tools print before it


def find_models(cache, assets, globs):
    """Return name to file of the models asked for; export what is not in the cache yet."""

    def asked(name):
        return any(fnmatch.fnmatch(name, one) for one in globs)

    models = {}
    for name in filter(asked, EXPORTS):
        path = cache / f"{name}.onnx"
        if path.exists() or exported(name, cache):
            models[name] = path
    if not assets.is_dir():
        warn(f"{assets} is absent: the real models are left out")
    real = {path.stem: path for path in sorted(assets.glob("*.onnx"))}
    return models | {name: path for name, path in real.items() if asked(name)}


def exported(name, cache):
    """Export a model, or say why not."""
    for package, architectures in NEEDS.items():
        if name.partition(".")[0] in architectures and importlib.util.find_spec(package) is None:
            warn(f"{name} is left out: {package} is not installed; {INSTALL} {package}")
            return False
    print(f"exporting {name}", file=sys.stderr, flush=True)
    _, failure = child("exports", name, cache)
    if failure:
        warn(f"{name} is left out: its export failed, {failure}")
    return not failure


def installed_tools(asked):
    for name in asked:
        if not TOOLS[name].is_installed:
            package = TOOLS[name].package
            warn(f"{name} is left out: {package} is not installed; {INSTALL} {package}")
    return [name for name in asked if TOOLS[name].is_installed]


def warn(message):
    print(f"warning: {message}", file=sys.stderr, flush=True)


def measure_model(name, source, tools, rounds):
    """Yield a row for each tool; the tools take turns, and the least of the rounds counts."""
    with tempfile.TemporaryDirectory() as folder:
        golden = Path(folder, "golden.npz")
        found, failure = child("judging", "golden", source, golden)
        if failure:
            raise SystemExit(f"the original of {name} cannot be run: {failure}")
        for label, reason in json.loads(found)["refused"].items():
            warn(f"{name} itself refuses {label}: {reason[:160]}")
        runs = {tool: [] for tool in tools}
        for _ in range(rounds):
            for tool in tools:
                if None not in runs[tool]:
                    runs[tool].append(run_tool(tool, source, Path(folder, tool)))
        for tool in tools:
            yield judged_row(name, tool, source, golden, runs[tool], Path(folder, tool))


def run_tool(tool, source, folder):
    """Return what was measured, or how the tool failed."""
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    found, failure = child("tools", tool, source, folder / "target.onnx")
    return {"faults": [f"tool: {failure}"]} if failure else json.loads(found)


def judged_row(name, tool, source, golden, runs, folder):
    version = version_of(tool, source)
    failures = [run for run in runs if "faults" in run]
    if failures:
        return Row(name, tool, version, **failures[0])
    least = {key: min(run[key] for run in runs) for key in runs[0]}
    found, failure = child("judging", "judge", source, folder / "target.onnx", golden)
    verdict = {"faults": [f"does not run: {failure}"]} if failure else json.loads(found)
    return Row(name, tool, version, **least, **verdict)


def version_of(tool, source):
    return f"{TOOLS[tool].version} on {source.stat().st_size} bytes"


def read_rows(path):
    if not path.exists():
        return {}
    rows = [Row(**json.loads(line)) for line in path.read_text().splitlines() if line.strip()]
    return {(row.model, row.tool, row.version): row for row in rows}


def measure_all(models, tools, rounds, results):
    """Return every row, by model and tool; rows of an earlier run are used again."""
    known = read_rows(results)
    table = {}
    for name, source in models.items():
        keys = {tool: (name, tool, version_of(tool, source)) for tool in tools}
        rows = {tool: known[key] for tool, key in keys.items() if key in known}
        missing = [tool for tool in tools if tool not in rows]
        if missing:
            for row in measure_model(name, source, missing, rounds):
                rows[row.tool] = row
                with results.open("a") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
        table[name] = {tool: rows[tool] for tool in tools}
        print_line(name, table[name])
    return table


def print_line(name, rows):
    before = next((row.before for row in rows.values() if row.before), {"nodes": 0, "constants": 0})
    sizes = f"{before['nodes']:>6}+{before['constants']:<4}"
    print(f"{name:26}{sizes}" + "".join(map(cell, rows.values())), flush=True)


def cell(row):
    if row.failed:
        return f"{'!err':>22}"
    marks = dict.fromkeys(MARKS[fault.partition(":")[0]] for fault in row.faults)
    nodes = f"{row.nodes}{''.join(marks)}{'' if row.judged else '?'}"
    return f"{nodes:>10}{row.cpu_s:7.2f}{row.peak_mb:5.0f}"


def print_totals(table, tools):
    rows = {tool: [line[tool] for line in table.values()] for tool in tools}
    done = {tool: [row for row in found if not row.failed] for tool, found in rows.items()}
    summary = {
        "nodes": lambda tool: sum(row.nodes for row in done[tool]),
        "CPU s": lambda tool: f"{sum(row.cpu_s for row in done[tool]):.1f}",
        "peak MiB": lambda tool: f"{max((row.peak_mb for row in done[tool]), default=0):.0f}",
        "failed": lambda tool: len(rows[tool]) - len(done[tool]),
        "not right": lambda tool: sum(not row.is_right for row in rows[tool]),
        "grew": lambda tool: sum(row.grew for row in rows[tool]),
    }
    for label, of in summary.items():
        print(f"{label:37}" + "".join(f"{of(tool):>22}" for tool in tools))


def best_rival(rows):
    """Return the row of the rival that is right and leaves the fewest nodes."""
    right = [row for tool, row in rows.items() if tool in RIVALS and row.is_right]
    return min(right, key=lambda row: (row.nodes, row.cpu_s), default=None)


def print_faults(table):
    for name, rows in table.items():
        for tool, row in rows.items():
            for fault in row.faults[:2]:
                print(f"{name}, {tool}: {fault[:200]}")


def ratio(table, fold):
    """Return the largest ratio of Shipway to a rival over the models where that rival is right."""
    found = []
    for rival in RIVALS:
        pairs = [
            (rows[SHIPWAY], rows[rival])
            for rows in table.values()
            if rival in rows and rows[rival].is_right and not rows[SHIPWAY].failed
        ]
        if pairs:
            ours, theirs = zip(*pairs, strict=True)
            found.append(fold(ours) / fold(theirs))
    return round(max(found), 3) if found else None


def summarise(table):
    ours = {name: rows[SHIPWAY] for name, rows in table.items()}
    best = {name: best_rival(rows) for name, rows in table.items()}
    return {
        "models": sum(not row.failed for row in ours.values()),
        "nodes_worse": sum(
            found is not None and (ours[name].failed or found.nodes < ours[name].nodes)
            for name, found in best.items()
        ),
        "wrong_outputs": sum(not row.is_right for row in ours.values()),
        "grew": sum(row.grew for row in ours.values()),
        "cpu_vs_fastest_rival": ratio(table, lambda rows: sum(row.cpu_s for row in rows)),
        "rss_vs_leanest_rival": ratio(table, lambda rows: max(row.peak_mb for row in rows)),
    }


def print_worse(table):
    for name, rows in table.items():
        best = best_rival(rows)
        if best is not None and (rows[SHIPWAY].failed or best.nodes < rows[SHIPWAY].nodes):
            print(f"{name}: {best.tool} leaves {best.nodes}, Shipway {rows[SHIPWAY].nodes}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default="*", help="names or globs, with commas between")
    parser.add_argument("--tools", default=",".join(TOOLS), help="names, with commas between")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the exports")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="folder of the real models")
    parser.add_argument("--results", type=Path, help="JSON lines; results.jsonl in the cache")
    parser.add_argument("--export-only", action="store_true")
    options = parser.parse_args()
    options.tools = options.tools.split(",")
    if unknown := set(options.tools) - set(TOOLS):
        parser.error(f"no such tool: {', '.join(sorted(unknown))}; there are {', '.join(TOOLS)}")
    if options.rounds < 1:
        parser.error("--rounds begins at 1")
    return options


def main():
    options = parse_arguments()
    cache = options.cache.expanduser().resolve()
    cache.mkdir(parents=True, exist_ok=True)
    models = find_models(cache, options.assets.resolve(), options.models.split(","))
    if not models:
        raise SystemExit(f"no model is called {options.models}")
    if options.export_only:
        return
    tools = installed_tools(options.tools)
    results = (options.results or cache / "results.jsonl").resolve()
    print("nodes left, CPU s and peak MiB of each tool; in: nodes+Constants")
    print(f"{'':26}{'in':>6}{'':5}" + "".join(f"{tool:>22}" for tool in tools), flush=True)
    table = measure_all(models, tools, options.rounds, results)
    print_totals(table, tools)
    print_faults(table)
    if SHIPWAY in tools:
        print_worse(table)
        print(json.dumps(summarise(table)))


if __name__ == "__main__":
    main()
