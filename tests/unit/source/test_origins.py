"""Reading where a node comes from."""

import pytest

from shipway.source.origins import Origin, module_path, read_origin

SCOPES = "pkg.torch.onnx.name_scopes"
TRACE = "pkg.torch.onnx.stack_trace"


@pytest.mark.parametrize(
    ("node", "path"),
    [
        ("/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("/blocks.1/mlp/Relu_3", "blocks.1.mlp"),
        ("/Add", ""),
        ("Conv_12", ""),
        ("", ""),
    ],
)
def test_a_module_path_is_read_from_a_node_name(node, path):
    """Containers repeat their path, attributes do not."""
    assert module_path(node) == path


def test_the_record_of_the_exporter_is_read():
    metadata = {
        SCOPES: "['', 'blocks', 'blocks.1', 'blocks.1.fc', 'linear_3']",
        TRACE: 'File "/home/me/net.py", line 18, in forward\n    x = self.fc(x)',
    }
    found = read_origin("node_linear_3", metadata)
    assert found == Origin("blocks.1.fc", "net.py:18", "x = self.fc(x)", "linear_3")


@pytest.mark.parametrize("record", ["", "nonsense(", "7", "{}", "[]"])
def test_a_record_that_cannot_be_read_says_nothing(record):
    assert read_origin("n", {SCOPES: record}) == Origin()


def test_the_model_itself_is_the_module_without_a_name():
    assert read_origin("/odd/Add", {SCOPES: "['', 'add']"}) == Origin("", fx="add")
