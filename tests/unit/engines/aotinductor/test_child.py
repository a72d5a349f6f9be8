"""The child executes the files of the operators that a program calls, and no others."""

import pytest
import torch

from shipway.engines.aotinductor import child
from shipway.engines.base import EngineOptions
from shipway.export.portable import PortableModel
from shipway.ops import custom_op
from shipway.ops.adoption import names_called
from shipway.ops.torch_op import register_all
from shipway.tensors import TensorSpec


@pytest.fixture(scope="module")
def called():
    """An operator of this file that a program calls; another one is defined beside it."""
    define = custom_op("child::called", schema="(Tensor x) -> Tensor", types="T->T")
    op = define(lambda x: x + 1)
    custom_op("child::other", schema="(Tensor x) -> Tensor", types="T->T")(lambda x: x + 2)
    register_all()
    return op


class Net(torch.nn.Module):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def forward(self, x):
        return torch.ops.child.called(x) if self.calls else x * 2


def request_for(calls, tmp_path):
    program = torch.export.export(Net(calls), (torch.ones(2),))
    torch.export.save(program, tmp_path / "net.pt2")
    specs = (TensorSpec("x", "float32", (2,)),)
    model = PortableModel(specs, specs, program=tmp_path / "net.pt2")
    return names_called(program), child._request(model, tmp_path / "net.pt2", EngineOptions())


def test_a_program_without_operators_asks_for_no_file(called, tmp_path) -> None:
    """Whatever else is defined in the process, in places a child could not define it again."""
    names, request = request_for(calls=False, tmp_path=tmp_path)
    assert names == set()
    assert request["operators"] == []


def test_the_file_of_what_is_called_comes_along(called, tmp_path) -> None:
    names, request = request_for(calls=True, tmp_path=tmp_path)
    assert names == {"child::called"}
    assert request["operators"] == [__file__]
