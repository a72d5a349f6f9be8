"""What the tests of audits share."""

import onnx
import onnx.parser
from onnx import numpy_helper

from shipway.proof.audit import audit_graph

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def parsed(text, weights=None):
    proto = onnx.parser.parse_model(HEAD + text)
    for name, array in (weights or {}).items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto


def run(path, **options):
    """Audit without sizes of 0, each of which takes a process of its own."""
    return audit_graph(path, nonempty=True, **options)


def audit(path, **options):
    return run(path, **options).audit


def found(result):
    return {(one.severity, one.kind, one.value) for one in result.findings}
