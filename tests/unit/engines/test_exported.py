"""What the engines that run exported programs share."""

import threading
import time
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from shipway.engines.exported import (
    memory_of,
    own_arrays,
    read_program,
    read_signature,
    require_program,
    to_tensors,
    torch_settings,
)
from shipway.errors import EngineError, ModelError
from shipway.export.portable import PortableModel
from shipway.tensors import DTYPES, TensorSpec


class Several(torch.nn.Module):
    """A keyword input, a constant input, nested outputs with a None and a number between."""

    def forward(self, x, negate=True, *, k):
        return {"sum": x - k if negate else x + k, "none": None, "three": 3, "pair": (x * 2, k)}


def spec(name, *shape, dtype="float32"):
    return TensorSpec(name, dtype, shape)


def save(path: Path, module, args, kwargs=None, **options) -> Path:
    torch.export.save(torch.export.export(module, args, kwargs, **options), path)
    return path


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    path = tmp_path_factory.mktemp("several") / "s.pt2"
    return save(path, Several(), (torch.ones(2), False), {"k": torch.ones(2)})


OUTPUTS = (spec("sum", 2), spec("double", 2), spec("k2", 2))


def test_a_signature_is_flat(several):
    """Tensors by placeholder, constants by value, outputs by position."""
    model = PortableModel((spec("x", 2), spec("k", 2)), OUTPUTS, program=several)
    signature = read_signature(several, read_program(several), model)
    assert signature.placeholders == ("x", "k")
    assert signature.outputs == (0, 3, 4)
    assert not signature.mutates
    assert signature.leaves(["X", "K"]) == ["X", False, "K"]


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ((spec("x", 2),), OUTPUTS, "2 tensor inputs; the model says 1"),
        ((spec("x", 2), spec("k", 2)), OUTPUTS[:1], "3 tensor outputs; the model says 1"),
        ((spec("x", 2), spec("k", 2, dtype="int64")), OUTPUTS, "Input k .* is float32 with 1"),
        ((spec("x", 2, 1), spec("k", 2)), OUTPUTS, "Input x .* with 1 dimensions"),
    ],
    ids=["inputs", "outputs", "dtype", "rank"],
)
def test_specs_of_another_program_are_refused(several, inputs, outputs, said):
    """Compiled kernels check neither count nor dtype nor rank."""
    with pytest.raises(ModelError, match=said):
        read_signature(several, read_program(several), PortableModel(inputs, outputs))


def test_a_number_that_may_change_is_refused(tmp_path):
    """A symbolic integer input is no tensor, so no array could feed it."""

    class Power(torch.nn.Module):
        def forward(self, x, n):
            return x * n

    dims = {"x": None, "n": torch.export.Dim.DYNAMIC}
    path = save(tmp_path / "p.pt2", Power(), (torch.ones(2), 3), dynamic_shapes=dims)
    model = PortableModel((spec("x", 2),), (spec("y", 2),))
    with pytest.raises(ModelError, match="number 'n'"):
        read_signature(path, read_program(path), model)


def test_writing_in_place_is_noticed(tmp_path):
    """Such a program must get copies of the caller's arrays."""

    class Adds(torch.nn.Module):
        def forward(self, x):
            return x.add_(1) * 2

    path = save(tmp_path / "a.pt2", Adds(), (torch.ones(2),))
    model = PortableModel((spec("x", 2),), (spec("y", 2),))
    assert read_signature(path, read_program(path), model).mutates


def test_files_that_are_no_program_are_named(tmp_path, several, caplog):
    """No program, another zip, a program with its graph torn out: a line each, nothing logged."""
    model = PortableModel((), (), program=tmp_path / "m.pt2")
    with pytest.raises(ModelError, match=r"No such model file: .*m\.pt2"):
        require_program(model, "torch")
    model.program.write_bytes(several.read_bytes()[:500])
    with pytest.raises(ModelError, match=r"m\.pt2 is not a whole exported program"):
        require_program(model, "torch")
    # The last bytes gone, a zip inside the zip still looks like the end of one: torch must tell.
    model.program.write_bytes(several.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"m\.pt2 is not an exported program"):
        read_program(model.program)
    with zipfile.ZipFile(several) as whole, zipfile.ZipFile(model.program, "w") as torn:
        for name in whole.namelist():
            torn.writestr(name, b"{}" if name.endswith("model.json") else whole.read(name))
    with pytest.raises(ModelError, match=r"m\.pt2 cannot be loaded: ") as error:
        read_program(require_program(model, "torch"))
    assert "see the warnings" not in str(error.value).lower()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_an_unregistered_operator_is_named(tmp_path):
    """With the way to register it."""
    with torch.library._scoped_library("shipway_test", "FRAGMENT") as library:
        library.define("gone(Tensor x) -> Tensor")
        library.impl("gone", lambda x: x + 1, "CompositeExplicitAutograd")

        class Calls(torch.nn.Module):
            def forward(self, x):
                return torch.ops.shipway_test.gone(x)

        path = save(tmp_path / "c.pt2", Calls(), (torch.ones(2),))
    with pytest.raises(
        EngineError, match="No kernel for custom operator shipway_test::gone"
    ) as error:
        read_program(path)
    assert "--ops" in error.value.hint


@pytest.mark.parametrize("dtype", [dtype.name for dtype in DTYPES])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_every_dtype_goes_in_and_comes_out_bit_for_bit(dtype, shape):
    """bfloat16 too, which numpy itself does not know; 0-d stays 0-d."""
    numpy_dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(numpy_dtype)
    (tensor,) = to_tensors([array], copy=False)
    assert str(tensor.dtype) == f"torch.{dtype}"
    (back,) = own_arrays([tensor], set())
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


def test_feeds_are_shared_unless_copied_or_read_only():
    """A copy where the program writes, or where the array may not be written to."""
    array = np.zeros(3, np.float32)
    shared, copied = (to_tensors([array], copy=copy)[0] for copy in (False, True))
    array[0] = 5
    assert (shared[0], copied[0]) == (5, 0)
    array.flags.writeable = False
    (tensor,) = to_tensors([array], copy=False)
    tensor[0] = 7
    assert array[0] == 5


def test_outputs_share_no_memory_with_anyone():
    """Not with what is borrowed, not with each other, not as a view of something larger."""
    weight, result = torch.zeros(2, 2), torch.ones(4)
    arrays = own_arrays([weight.t(), result, result, result[::2]], memory_of([weight]))
    for array in arrays:
        np.add(array, 1, out=array)
    assert weight.sum() == 0
    assert [array.sum() for array in arrays] == [4, 8, 8, 4]


def test_settings_hold_whatever_others_set():
    """Thread count and float32 products are as promised, though someone changed them before."""
    torch.set_num_threads(2)
    torch.set_float32_matmul_precision("medium")
    with torch_settings(1):
        assert torch.get_num_threads() == 1
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.is_inference_mode_enabled()


def test_runs_of_other_thread_counts_wait_and_the_same_go_together():
    """Never two counts at once; two runs of one count do meet."""
    inside: set[int] = set()
    mixed, together = [], []
    lock = threading.Lock()
    meet = threading.Barrier(2, timeout=10)

    def run(threads, count):
        for _ in range(count):
            with torch_settings(threads):
                with lock:
                    inside.add(threads)
                    mixed.append(len(inside))
                time.sleep(0.001)
                with lock:
                    inside.discard(threads)

    def gather():
        with torch_settings(1):
            together.append(meet.wait())

    workers = [threading.Thread(target=run, args=(n, 20)) for n in (1, 2)]
    workers += [threading.Thread(target=gather) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert set(mixed) == {1}
    assert len(together) == 2


def test_an_error_inside_is_an_engine_error():
    """In one line, and the gate opens again."""
    with (
        pytest.raises(EngineError, match=r"PyTorch failed while running: boom\."),
        torch_settings(1),
    ):
        raise RuntimeError("boom\nstack")
    with torch_settings(2):
        assert torch.get_num_threads() == 2
