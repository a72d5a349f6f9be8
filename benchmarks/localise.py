"""Whether the operator at fault is found, and why it is wrong, in engines that fuse and round.

Faults of thirteen kinds (faults/broken.py) are put into models of different kinds
(faults/models.py), one at a time. ONNX Runtime in f32 and OpenVINO in f32, bf16 and f16, where the
machine has it, compile the broken graph; golden is the clean one. Beside Shipway, on the same tensors:
msit's five thresholds, Polygraphy's default and the rule of torch.onnx's verification
(faults/rivals.py). faults/study.py says what counts as right, wrong, missed and without effect.

The localiser's limits and causes were tuned on the models of TUNE (faults/models.py) and are reported
on those of REPORT. Draws are seeded: the same arguments give the same faults.

The last line is JSON, on REPORT (on all models asked for where none of REPORT is among them):

- cases: faults that have an effect in their engine
- right_f32, right_low_precision: share of them that is found at its place
- wrong: cases where something else is blamed
- false_alarms: clean engines in which something is blamed
- cause_right: share of the cases found whose class is named

Run: .venv/bin/python benchmarks/localise.py [--models NAME,NAME] [--engines GLOB] [--cases N]
    [--seed N] [--results FILE]
With --results a run that was stopped goes on: what is in the file is not run again.
"""

import argparse
import fnmatch
import json
import sys
import time
from collections import Counter
from pathlib import Path

from faults.broken import KINDS
from faults.models import MODELS, REPORT, TUNE
from faults.rivals import RULES
from faults.study import CLEAN, ENGINES, Row, Study, why_absent

CACHE = Path.home() / ".cache" / "shipway-bench" / "localise"
OURS = "Shipway"
VERDICTS = ("right", "wrong", "missed")
COUNTED = (*VERDICTS, "crashed")


def say(message):
    print(message, file=sys.stderr, flush=True)


def run_models(options, known, keep):
    """Run what is not known yet; return the rows of what was asked for, and what was left out."""
    rows, left_out = [], []
    for name in options.models:
        model = MODELS[name]
        if model.missing:
            left_out.append(f"{name}: {model.missing} is absent")
            continue
        with Study(model, options.cache, options.cases, options.seed) as study:
            for engine in options.engines:
                reason = model.left_out.get(engine) or why_absent(engine, study)
                if reason:
                    left_out.append(f"{name} in {engine}: {reason}")
                    continue
                run_engine(study, engine, known, keep)
                rows += [known[key] for key in study.keys(engine)]
    return rows, left_out


def run_engine(study, engine, known, keep):
    start = time.perf_counter()
    fresh = 0
    for row in study.rows(engine, known):
        known[row.key] = row
        keep(row)
        fresh += 1
        say(line_of(row))
    say(f"{study.model.name}, {engine}: {fresh} in {time.perf_counter() - start:.1f} s")


def line_of(row):
    culprit = f"{row.culprits[0][0]} ({row.culprits[0][1]})" if row.culprits else "-"
    return (
        f"{row.model:11}{row.engine:16}{row.kind:11}{row.node[:28]:29}{row.verdict:12}"
        f"{culprit[:50]:51}{row.seconds:6.2f} s"
    )


def verdict_of(row, rule):
    verdict = row.verdict if rule == OURS else row.rivals.get(rule, "missed")
    return "missed" if verdict == "crashed" else verdict


def count(rows, rule):
    """Return right, wrong and missed by a rule, over the cases that have an effect."""
    found = Counter(verdict_of(row, rule) for row in rows)
    return [found[verdict] for verdict in VERDICTS]


def print_table(title, groups):
    """Print one line a group: right / wrong / missed of each rule."""
    rules = (OURS, *RULES)
    print(f"\n{title:34}" + "".join(f"{rule:>18}" for rule in rules))
    for name, rows in groups.items():
        cells = "".join(f"{'/'.join(map(str, count(rows, rule))):>18}" for rule in rules)
        print(f"{name[:26]:27}{len(rows):6} {cells}")


def grouped(rows, key):
    groups = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def print_set(title, rows):
    """Print what there is to say about one set of models."""
    faulty = [row for row in rows if row.kind != CLEAN]
    cases = [row for row in faulty if row.verdict in COUNTED]
    verdicts = Counter(row.verdict for row in faulty)
    print(f"\n== {title}: {', '.join(dict.fromkeys(row.model for row in rows))}")
    print(
        f"{len(faulty)} faults: {len(cases)} cases, {verdicts['no effect']} without effect, "
        f"{verdicts['failed']} that did not run"
    )
    print("right/wrong/missed of:", end="")
    print_table("engine", grouped(cases, lambda row: row.engine))
    by_kind = grouped(cases, lambda row: row.kind)
    print_table("fault", {kind: by_kind[kind] for kind in KINDS if kind in by_kind})
    print_table("model", grouped(cases, lambda row: row.model))
    print_alarms([row for row in rows if row.verdict in {"clean", "false alarm"}])
    print_causes([row for row in cases if row.verdict == "right"])
    print_failures(rows)


def print_alarms(rows):
    """Print, of the clean engines, false alarms, how near to one Shipway was, and its coverage."""
    rules = (OURS, *RULES)
    print(f"\n{'false alarms in clean engines':34}" + "".join(f"{rule:>18}" for rule in rules))
    for engine, group in grouped(rows, lambda row: row.engine).items():
        alarms = [sum(verdict_of(row, rule) == "false alarm" for row in group) for rule in rules]
        print(f"{engine:27}{len(group):6} " + "".join(f"{alarm:>18}" for alarm in alarms))
    print(f"\n{'clean engines':27}{'worst severity':>18}{'compared':>12}  not compared")
    for row in rows:
        worst = max(float(one["severity"]) for one in row.evidence.values() if "severity" in one)
        reasons = Counter(row.unmatched.values()).most_common(3)
        listed = "; ".join(f"{number}: {reason}" for reason, number in reasons)
        name = f"{row.model}, {row.engine}"
        print(f"{name:27}{worst:>18.3f}{row.compared:>12}  {len(row.unmatched)} {listed[:150]}")


def print_causes(rows):
    print(f"\n{'class named':12}{'right':>12}  named")
    for kind, group in grouped(rows, lambda row: row.kind).items():
        named = Counter(row.culprits[0][1] for row in group)
        right = sum(row.cause_right for row in group)
        listed = ", ".join(f"{cause} {number}" for cause, number in named.most_common())
        print(f"{kind:12}{right:>6} of {len(group):<4} {listed}")


def print_failures(rows):
    for row in rows:
        if row.verdict in {"wrong", "missed", "crashed", "failed", "false alarm"}:
            culprits = ", ".join(f"{name} ({cause})" for name, cause, _ in row.culprits)
            error = row.evidence.get("error", "")
            print(
                f"{row.verdict}: {row.model}, {row.engine}, {row.kind} at {row.node} ({row.op}, "
                f"{row.detail}): truth {', '.join(row.truth)[:80]}; named {culprits[:120]} {error}"
            )


def share(part, whole):
    return round(part / whole, 4) if whole else None


def summarise(rows):
    cases = [row for row in rows if row.verdict in COUNTED]
    right = [row for row in cases if row.verdict == "right"]

    def right_share(wanted):
        group = [row for row in cases if (ENGINES[row.engine][1] == "f32") == wanted]
        return share(sum(row.verdict == "right" for row in group), len(group))

    return {
        "cases": len(cases),
        "right_f32": right_share(wanted=True),
        "right_low_precision": right_share(wanted=False),
        "wrong": sum(row.verdict == "wrong" for row in cases),
        "false_alarms": sum(row.verdict == "false alarm" for row in rows),
        "cause_right": share(sum(row.cause_right for row in right), len(right)),
    }


def read_rows(path):
    if path is None or not path.exists():
        return {}
    rows = [Row(**json.loads(line)) for line in path.read_text().splitlines() if line.strip()]
    return {row.key: row for row in rows}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default=",".join(MODELS), help="names, with commas between")
    parser.add_argument("--engines", default="*", help="names or globs, with commas between")
    parser.add_argument("--cases", type=int, default=24, help="faults drawn for each model")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--results", type=Path, help="JSON lines to add to and go on from")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the exports")
    options = parser.parse_args()
    options.models = options.models.split(",")
    if unknown := set(options.models) - set(MODELS):
        parser.error(f"no such model: {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    globs = options.engines.split(",")
    options.engines = [
        name for name in ENGINES if any(fnmatch.fnmatch(name, f"*{one}*") for one in globs)
    ]
    if not options.engines:
        parser.error(f"no engine is called {', '.join(globs)}; there are {', '.join(ENGINES)}")
    return options


def main():
    options = parse_arguments()
    options.cache = options.cache.expanduser().resolve()
    options.cache.mkdir(parents=True, exist_ok=True)

    def keep(row):
        if options.results is not None:
            with options.results.open("a") as file:
                file.write(json.dumps(row.to_json()) + "\n")

    rows, left_out = run_models(options, read_rows(options.results), keep)
    for reason in left_out:
        print(f"left out: {reason}")
    if not rows:
        raise SystemExit("nothing was run")
    sets = {"tuned on": TUNE, "reported on": REPORT}
    for title, names in sets.items():
        group = [row for row in rows if row.model in names]
        if group:
            print_set(title, group)
    reported = [row for row in rows if row.model in REPORT]
    print(json.dumps(summarise(reported or rows)))


if __name__ == "__main__":
    main()
