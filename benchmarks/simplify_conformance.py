"""Whether ONNX's own tests compute the same after `simplify`, in every profile.

Each case of `onnx.backend.test` that ONNX Runtime runs with its optimiser off is simplified and run
again: as it comes, with free sizes, with constants in place of inputs, inside a function. What differs is listed by name.

Run: .venv/bin/python benchmarks/simplify_conformance.py [--write] [--profile NAME]
With --write the page docs/reference/simplify-conformance.md is written anew.
"""

import argparse
import json
import re
import sys
import tempfile
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "simplify-conformance.md"
sys.path.insert(0, str(ROOT / "tests" / "zoo" / "graph"))

from hostile.conformance import VARIANTS, Survey, attempts, survey  # noqa: E402 -- needs the path
from hostile.simplifying import PROFILES  # noqa: E402 -- needs the path

HEAD = """# Simplify, case by case

Every node and model test of `onnx.backend.test` (onnx {onnx}) that ONNX Runtime {onnxruntime} runs with its
optimiser off was simplified, saved, loaded and run again. Outputs have to be equal: bit for bit where
only exact rules were applied, within 1e-5 of the largest number where a rule sums in another order.
Names, order, types and free sizes of inputs and outputs, ONNX's checker, number of nodes and size of
the file are judged too.

As they come the cases hold no constants, so each is also tried with free sizes and with constants in
place of inputs, and as the body of a function that the graph calls. Written by
`benchmarks/simplify_conformance.py --write`.

| profile | form | cases | run | refused | equal | failed |
|---|---|---|---|---|---|---|
"""


def row(found: Survey) -> str:
    counts = (found.cases, found.run, len(found.refused), found.equal, len(found.failed))
    return f"| {found.profile} | {found.variant} | {' | '.join(map(str, counts))} |"


def named(title: str, surveys: list[Survey], which: str) -> list[str]:
    lines = [f"\n## {title}\n"]
    for found in surveys:
        for name, why in getattr(found, which).items():
            lines.append(f"- {found.profile}, {found.variant}: `{name}`: {shorten(why)}")
    return lines if len(lines) > 1 else [*lines, "None."]


def shorten(message: str) -> str:
    return re.sub(r"\s+", " ", message).replace("|", "/").replace("<", "&lt;")[:300]


def reasons() -> list[str]:
    """Why ONNX Runtime does not run the rest, as the cases come."""
    lines = [
        "\n## Not run by ONNX Runtime\n",
        "As the cases come:\n",
        "| cases | why |",
        "|---|---|",
    ]
    counts = Counter(reason(why) for why in attempts(VARIANTS[0])[1].values())
    return lines + [f"| {count} | {why} |" for why, count in counts.most_common()]


REASONS = {
    r"Unsupported model IR version: (\d+)": "the model has IR version {}",
    r"official support for domain ai.onnx is till opset (\d+)": "the model is newer than opset {}",
    r"Could not find an implementation for (\w+)": "no kernel for {} of these types",
    r"Fatal error: ([\w.]+):": "no operators of {}",
    r"Numpy_type \d+ (can't be converted)": "inputs that {}: narrow types",
    r"(INVALID_GRAPH|INVALID_ARGUMENT|Type Error)": "{}",
}


def reason(message: str) -> str:
    """The message without names of cases, so that alike ones are counted together."""
    for pattern, words in REASONS.items():
        if match := re.search(pattern, message):
            return words.format(match.group(1))
    return "other"


def write_page(surveys: list[Survey]) -> None:
    head = HEAD.format(onnx=version("onnx"), onnxruntime=version("onnxruntime"))
    body = [*named("Failed", surveys, "failed"), *named("Refused", surveys, "refused"), *reasons()]
    PAGE.write_text(head + "\n".join([*map(row, surveys), *body]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--profile", action="append", choices=PROFILES, help="only this one")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # numpy's, from ONNX's own generators
    surveys = []
    with tempfile.TemporaryDirectory() as folder:
        for profile in options.profile or PROFILES:
            for variant in VARIANTS:
                surveys.append(survey(variant, profile, Path(folder)))
                print(row(surveys[-1]), flush=True)
    for line in named("Failed", surveys, "failed"):
        print(line)
    if options.write:
        write_page(surveys)
    run = sum(found.run for found in surveys)
    failed = sum(len(found.failed) for found in surveys)
    refused = sum(len(found.refused) for found in surveys)
    print(json.dumps({"run": run, "refused": refused, "failed": failed}))


if __name__ == "__main__":
    main()
