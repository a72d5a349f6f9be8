"""A report as a real run makes it: golden, three f32 engines, one at bf16 beyond its limits, one that failed.

Its parts are the real results of the stages, so a field that changes there breaks the tests here.
"""

from shipway.bench.results import BenchResult, Latency
from shipway.compare.results import Comparison, Coverage, Metrics, OutputComparison
from shipway.compare.verdict import judge, limits_for
from shipway.evaluate.results import BadSample, Evaluation, Flip, Flips, TopN
from shipway.proof.results import Proof, Trial
from shipway.report.data import Check, EngineSection, Report
from shipway.tensors import TensorSpec

TOTAL = 540
WILSON = {523: (0.9502, 0.9802), 522: (0.9481, 0.9787), 519: (0.9417, 0.9744), 540: (0.9929, 1.0)}
DIGEST = "5f0c8a7e1d3b42968e7a0c1f4d2b9e6a5f0c8a7e1d3b42968e7a0c1f4d2b9e6a"


def make_metrics(relative_l2, **changes):
    """Metrics of 5,400 logits with this relative L2."""
    values = {
        "count": 5400,
        "mismatches": 5123,
        "nonfinite_mismatches": 0,
        "relative_l2": relative_l2,
        "worst_channel": 2.1 * relative_l2,
        "worst_channel_index": 7,
        "gain": 1 + relative_l2 / 30,
        "zero_mismatch": 0.0,
        "cosine": 1 - relative_l2**2 / 2,
        "max_abs": 31 * relative_l2,
        "max_rel": 900 * relative_l2,
        "mean_rel": 3 * relative_l2,
        "rmse": 8 * relative_l2,
        "snr_db": 127.5 if relative_l2 else None,
        "max_ulp": 212,
        "worst_channel_axis": 1,
        "effective_count": 4100.0,
    }
    return Metrics(**(values | changes))


def make_comparison(actual, precision, relative_l2, *, skipped=None, **changes):
    """A comparison of one output `logits`, judged as the product judges it."""
    metrics = make_metrics(relative_l2, **changes)
    verdict = judge(metrics, "float32", limits_for(precision))
    output = OutputComparison("logits", "float32", (540, 10), metrics, verdict)
    return Comparison("torch f32", actual, precision, (output,), Coverage(1, skipped or {}))


def make_evaluation(engine, correct, flips):
    """An evaluation on the 540 digits: Top-1 as given, all of Top-5."""
    top = [TopN(1, correct, TOTAL, *WILSON[correct])]
    top += [TopN(n, right, TOTAL, low, 1.0) for n, right, low in TOP_REST]
    bad = (BadSample("digit-1311.png", "truncated file: 12 of 64 bytes"),)
    return Evaluation(
        engine=engine,
        dataset="examples/digits/test.npz",
        dataset_digest=DIGEST,
        preprocess="scale 0.0625",
        top=tuple(top),
        bad=bad,
        effective={"precision": "f32"},
        flips=flips,
        seconds=0.84,
        notes=("3 images without a label were left out.",),
    )


TOP_REST = ((2, 534, 0.976), (3, 538, 0.9866), (4, 539, 0.9896), (5, 540, 0.9929))


def make_bench(engine, batch, p50_ms, *, noise="quiet", count=1200):
    """A benchmark with this median; p99 is there only where there are 662 calls."""
    spread = {"quiet": 0.04, "noisy": 0.17, "too noisy": 0.4}[noise]
    latency = Latency(
        count=count,
        min_ms=0.93 * p50_ms,
        p50_ms=p50_ms,
        p90_ms=1.11 * p50_ms,
        p99_ms=1.38 * p50_ms if count >= 662 else None,
        max_ms=2.7 * p50_ms,
        mean_ms=1.03 * p50_ms,
        iqr_ms=spread * p50_ms,
        p50_low_ms=0.98 * p50_ms,
        p50_high_ms=1.02 * p50_ms,
    )
    return BenchResult(
        engine=engine,
        batch=batch,
        latency=latency,
        cpu_ms=1.9 * p50_ms,
        throughput=1000 * (batch or 1) / p50_ms,
        warmup_calls=64,
        warmup_stable=noise == "quiet",
        noise=noise,
        threads=2,
        effective={"precision": "f32"},
        load_before=0.4,
        load_after=1.1,
    )


def make_section(name, precision="f32", **changes):
    """A section with artifact and effective options and nothing measured."""
    values = {
        "name": name,
        "precision": precision,
        "golden": False,
        "effective": {"precision": precision, "threads": "2", "device": "CPU"},
        "artifact": {
            "file": f"engine-{name}-{precision}/model.bin",
            "size_bytes": 471_233,
            "sha256": DIGEST[::-1],
            "compile_seconds": 3.21,
        },
        "comparison": None,
        "evaluation": None,
        "bench": (),
    }
    return EngineSection(**(values | changes))


def make_flips(*flips, golden_only=0, actual_only=0, p=1.0):
    """Flips among the 540."""
    return Flips(TOTAL, tuple(flips), golden_only, actual_only, p)


def make_engines():
    """Golden, ONNX Runtime, OpenVINO at two precisions, and AOTInductor, which failed."""
    bf16_flips = make_flips(
        Flip("digit-1290", 3, 3, 9),
        Flip("digit-1402", 8, 8, 1),
        Flip("digit-1477", 5, 5, 9),
        Flip("digit-1533", 1, 1, 8),
        Flip("digit-1611", 9, 7, 3),
        golden_only=4,
        p=0.125,
    )
    return (
        make_section(
            "torch",
            golden=True,
            effective={"precision": "f32", "threads": "2"},
            evaluation=make_evaluation("torch f32", 523, None).to_json(),
            bench=(
                make_bench("torch f32", 1, 0.912).to_json(),
                make_bench("torch f32", 8, 3.48).to_json(),
            ),
        ),
        make_section(
            "onnxruntime",
            effective={"provider": "CPUExecutionProvider", "precision": "f32", "threads": "2"},
            comparison=make_comparison("onnxruntime f32", "f32", 3.1e-7).to_json(),
            evaluation=make_evaluation("onnxruntime f32", 523, make_flips()).to_json(),
            bench=(
                make_bench("onnxruntime f32", 1, 0.214).to_json(),
                make_bench("onnxruntime f32", 8, 1.33).to_json(),
            ),
        ),
        make_section(
            "openvino",
            comparison=make_comparison("openvino f32", "f32", 2.7e-7).to_json(),
            evaluation=make_evaluation(
                "openvino f32", 522, make_flips(Flip("digit-1290", 3, 3, 9), golden_only=1)
            ).to_json(),
            bench=(
                make_bench("openvino f32", 1, 0.188).to_json(),
                make_bench("openvino f32", 8, 1.02, noise="noisy").to_json(),
            ),
        ),
        make_section(
            "openvino",
            "bf16",
            comparison=make_comparison("openvino bf16", "bf16", 6.4e-2).to_json(),
            evaluation=make_evaluation("openvino bf16", 519, bf16_flips).to_json(),
            bench=(
                make_bench("openvino bf16", 1, 0.131, count=400).to_json(),
                make_bench("openvino bf16", 8, 0.66).to_json(),
            ),
        ),
        make_section("aotinductor", effective={}, artifact={}, error=COMPILER_ERROR),
    )


COMPILER_ERROR = (
    "The C++ compiler ended with code 1: fatal error: omp.h: No such file or directory."
)


def make_checks():
    """Eleven checks, three of them missed."""
    return (
        Check("export: ONNX equals PyTorch", True, "worst relative L2 2.20e-07"),
        Check("golden: Top-1", True, "96.85 %", "at least 96.00 %"),
        Check("onnxruntime f32: outputs equal golden", True, "relative L2 3.10e-07"),
        Check("onnxruntime f32: flips against golden", True, "0 of 540", "at most 1"),
        Check("openvino f32: outputs equal golden", True, "relative L2 2.70e-07"),
        Check("openvino f32: flips against golden", True, "1 of 540", "at most 1"),
        Check(
            "openvino bf16: outputs equal golden",
            False,
            "logits: relative L2 is 0.064, limit 0.0625",
        ),
        Check("openvino bf16: flips against golden", False, "5 of 540", "at most 1"),
        Check("aotinductor f32: runs", False, COMPILER_ERROR),
        Check("onnxruntime f32: median latency, batch 1", True, "0.214 ms", "at most 2 ms"),
        Check("openvino f32: median latency, batch 1", True, "0.188 ms", "at most 2 ms"),
    )


def make_proof():
    """A proof on three input sets of two sizes."""
    trials = (
        Trial(f"random, seed {seed}", {"batch": batch}, make_comparison("onnx", "f32", error))
        for seed, batch, error in ((0, 1, 1.4e-7), (1, 1, 2.2e-7), (0, 5, 1.9e-7))
    )
    return Proof("export", tuple(trials), ("Sizes of batch above 5 were not tried.",))


def make_report(**changes):
    """The whole report; `changes` replace fields of it."""
    image = TensorSpec("image", "float32", ("batch", 1, 8, 8)).to_json()
    logits = TensorSpec("logits", "float32", ("batch", 10)).to_json()
    values = {
        "title": "digits",
        "created": "2026-07-14T09:31:07+00:00",
        "model": {
            "source": "examples/digits/model.py:build",
            "parameters": 117_834,
            "inputs": [image],
            "outputs": [logits],
            "opset": 20,
            "onnx_nodes": 84,
            "size_bytes": 480_771,
            "sha256": DIGEST,
            "name_map_coverage": 1.0,
        },
        "proof": make_proof().to_json(),
        "checks": make_checks(),
        "engines": make_engines(),
        "notes": (
            "The machine was noisy while measuring openvino f32: do not rank on latency.",
            "1 sample of 541 could not be read and counts in no rate.",
        ),
        "environment": {
            "cpu": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
            "isa": "avx512",
            "usable_cores": 2,
            "memory_bytes": 25_276_502_016,
            "os": "Linux-6.1.0-x86_64-with-glibc2.36",
            "thread_variables": {"OMP_NUM_THREADS": "2"},
            "versions": {"python": "3.11.7", "torch": "2.13.0+cpu", "onnxruntime": "1.31.0"},
        },
        "reproduce": (
            "cd /home/ada/ships",
            "shipway deploy ship.toml --output runs/digits",
            "shipway compile runs/digits/export/digits.onnx --engine openvino --output runs/bf16",
        ),
    }
    return Report(**(values | changes))


def make_passing_report():
    """The same road without the two engines that miss."""
    checks = tuple(check for check in make_checks() if check.passed)
    return make_report(checks=checks, engines=make_engines()[:3])


HOSTILE = "</title><script>document.title='owned'</script><img src=http://127.0.0.1:9/x onerror=1>"


def make_hostile_report():
    """Every text that comes from outside is markup, an escape sequence, or very long."""
    text = f"{HOSTILE}\x1b[31m\u202e\udcff" + "x" * 200
    evaluation = make_evaluation(text, 522, make_flips(Flip(text, 3, 3, 9), golden_only=1))
    bad = {"sample": text, "reason": text}
    comparison = make_comparison(text, "f32", 0.5, skipped={text: text}).to_json()
    comparison["outputs"][0]["name"] = text
    comparison["outputs"][0]["verdict"]["reasons"] = [text]
    section = make_section(
        text,
        text,
        effective={text: text},
        artifact={"file": text, "size_bytes": 1, "sha256": text, "compile_seconds": 0.0},
        comparison=comparison,
        evaluation=evaluation.to_json() | {"dataset": text, "preprocess": text, "bad": [bad]},
        bench=(make_bench(text, 1, 0.5).to_json() | {"noise": "noisy"},),
    )
    return make_report(
        title=text,
        created=text,
        model={"source": text, "sha256": text, text: text},
        proof=make_proof().to_json() | {"step": text},
        checks=(Check(text, False, text, text),),
        engines=(section, make_section(text, "f16", error=text)),
        notes=(text,),
        environment={"cpu": text, "versions": {text: text}, text: {text: text}},
        reproduce=(text,),
    )
