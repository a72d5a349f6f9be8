import math

from shipway.environment import describe_environment
from shipway.proof.audit_results import AuditFinding, Place
from shipway.report.provenance import (
    describe_machine,
    describe_model,
    lay_out_artifacts,
    lay_out_proof,
)


def by_label(facts):
    return {fact.label: fact.values for fact in facts}


def test_the_model_is_described_with_units(report):
    facts = by_label(describe_model(report))
    assert facts["Parameters"] == ("117,834",)
    assert facts["Inputs"] == ("image:float32[batch,1,8,8]",)
    assert facts["Size"] == ("480.8 kB (480,771 bytes)",)
    assert facts["Name-map coverage"] == ("100.00 %",)


def test_unknown_facts_are_shown_under_their_own_names_and_absent_ones_are_not(samples):
    report = samples.make_report(
        model={"opset": None, "weights_file": "w.pt", "layers": [1, 2], "counts": {"conv": 3}}
    )
    assert by_label(describe_model(report)) == {
        "weights file": ("w.pt",),
        "layers": ("1", "2"),
        "counts": ("conv 3",),
    }


def test_this_machine_is_described(samples):
    facts = by_label(describe_machine(samples.make_report(environment=describe_environment())))
    assert {"CPU", "Memory", "Versions", "Usable physical cores"} <= facts.keys()
    assert any(version.startswith("python ") for version in facts["Versions"])


def test_no_thread_variables_are_said_to_be_none(samples):
    report = samples.make_report(environment={"thread_variables": {}})
    assert by_label(describe_machine(report)) == {"Thread variables": ("none",)}


def test_the_proof_lists_every_trial(report):
    proof = lay_out_proof(report)
    assert proof.passed
    assert proof.worst_relative_l2 == "2.20e-07"
    assert proof.notes == ("Sizes of batch above 5 were not tried.",)
    assert [(t.inputs, t.sizes, t.relative_l2) for t in proof.trials] == [
        ("random, seed 0", "batch=1", "1.40e-07"),
        ("random, seed 1", "batch=1", "2.20e-07"),
        ("random, seed 0", "batch=5", "1.90e-07"),
    ]


def test_what_an_export_promises_falsely_comes_before_the_notes(samples):
    finding = AuditFinding(
        "error",
        "lost-size",
        "batch",
        "The module takes batch=1 and its export does not.",
        place=Place(source="net.py:7: x.squeeze()"),
    )
    proof = samples.make_proof().to_json() | {"passed": False, "findings": [finding.to_json()]}
    notes = lay_out_proof(samples.make_report(proof=proof)).notes
    assert notes[0] == (
        "error: The module takes batch=1 and its export does not. At net.py:7: x.squeeze()."
    )
    assert len(notes) == 2


def test_a_failed_trial_says_why(samples):
    trial = {
        "inputs": "random, seed 0",
        "sizes": {},
        "comparison": samples.make_comparison(
            "onnx", "f32", math.inf, gain=None, skipped={"aux": "only golden has it"}
        ).to_json(),
    }
    proof = samples.make_proof().to_json() | {
        "trials": [trial],
        "passed": False,
        "worst_relative_l2": math.inf,
    }
    found = lay_out_proof(samples.make_report(proof=proof))
    assert found.worst_relative_l2 == "inf"
    row = found.trials[0]
    assert (row.sizes, row.relative_l2, row.passed) == ("fixed", "inf", False)
    assert any(reason.startswith("logits: relative L2 is inf") for reason in row.reasons)
    assert "aux was skipped: only golden has it" in row.reasons


def test_no_proof_is_no_section(samples):
    assert lay_out_proof(samples.make_report(proof=None)) is None


def test_artifacts_have_what_was_in_force_and_a_failed_engine_its_message(report, samples):
    rows = lay_out_artifacts(report)
    assert rows[1].effective == "provider CPUExecutionProvider, precision f32, threads 2"
    assert (rows[1].size, rows[1].compile_seconds) == ("471.2 kB", "3.21")
    assert rows[4].error == samples.COMPILER_ERROR
    assert {rows[4].file, rows[4].size, rows[4].sha256, rows[4].effective} == {"-"}
