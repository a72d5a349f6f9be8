"""report.json is what schema.json says, and schema.json says all of it."""

import json
from importlib import resources

import jsonschema
import pytest

from shipway.environment import describe_environment
from shipway.report.data import Report


@pytest.fixture(scope="module")
def schema():
    text = resources.files("shipway.report").joinpath("schema.json").read_text(encoding="utf-8")
    return json.loads(text)


def test_the_schema_is_itself_valid(schema):
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("make", ["make_report", "make_passing_report", "make_hostile_report"])
def test_reports_are_valid(schema, samples, make):
    jsonschema.validate(getattr(samples, make)().to_json(), schema)


def test_a_report_of_nothing_is_valid(schema):
    jsonschema.validate(Report("", "", {}, None, (), (), (), {}, ()).to_json(), schema)


def test_a_report_of_this_machine_is_valid(schema, samples):
    report = samples.make_report(environment=describe_environment())
    jsonschema.validate(report.to_json(), schema)


def test_an_infinite_metric_is_valid_and_other_text_is_not(schema, samples):
    comparison = samples.make_comparison("x", "f32", float("inf"), gain=None).to_json()
    section = samples.make_section("x", comparison=comparison)
    plain = samples.make_report(engines=(section,)).to_json()
    jsonschema.validate(plain, schema)
    plain["engines"][0]["comparison"]["outputs"][0]["metrics"]["relative_l2"] = "large"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plain, schema)


@pytest.mark.parametrize(
    "damage",
    [
        lambda plain: plain.pop("passed"),
        lambda plain: plain.update(schema_version=2),
        lambda plain: plain["engines"][0].update(golden="yes"),
        lambda plain: plain["engines"][1]["evaluation"]["top"][0].pop("correct"),
        lambda plain: plain["engines"][1]["bench"][0].update(noise="loud"),
        lambda plain: plain["proof"]["trials"][0].pop("comparison"),
    ],
)
def test_the_schema_sees_damage(schema, report, damage):
    plain = report.to_json()
    damage(plain)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plain, schema)


def _undocumented(value, rule, schema, where):
    """Yield every property of `value` that its rule does not describe."""
    if "$ref" in rule:
        rule = schema["$defs"][rule["$ref"].rpartition("/")[2]]
    if "anyOf" in rule:
        rule = schema["$defs"][rule["anyOf"][0]["$ref"].rpartition("/")[2]]
    if isinstance(value, dict) and "properties" in rule:
        for key, item in value.items():
            if key not in rule["properties"]:
                yield f"{where}.{key}"
            else:
                yield from _undocumented(item, rule["properties"][key], schema, f"{where}.{key}")
    if isinstance(value, list) and "items" in rule:
        for item in value:
            yield from _undocumented(item, rule["items"], schema, f"{where}[]")


def test_every_property_of_every_stage_is_described(schema, report):
    """A field added to a result must be described in schema.json."""
    assert list(_undocumented(report.to_json(), schema, schema, "report")) == []
