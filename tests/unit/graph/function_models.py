"""Models with functions, written as text."""

from shipway.graph.simplify import SimplifyOptions, simplify_graph

HEAD = '<ir_version: 10, opset_import: ["" : 20, "l" : 1]>\nmain '


def body(text, opset=20):
    return f'\n<domain: "l", opset_import: ["" : {opset}, "l" : 1]> {text}'


def rests(model, **options):
    """Simplify a model that ONNX Runtime need not run; a second time changes nothing."""
    found = simplify_graph(model, SimplifyOptions(**options))
    assert not simplify_graph(model, SimplifyOptions(**options)).changes
    return found


def types(graph):
    return [node.op_type for node in graph]
