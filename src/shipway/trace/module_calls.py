"""What happens during one call of a PyTorch model, as it is told by torch's hooks."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Literal

from shipway.engines.tapping import Tap, TapKind
from shipway.export.outputs import flatten_outputs
from shipway.source.locations import current_location

__all__ = ["LEVELS", "CallRecorder", "Level", "Receive"]

Level = Literal["module", "operator"]
LEVELS: tuple[Level, ...] = ("module", "operator")
Receive = Callable[[Tap, Any], None]
"""Takes a tap and its torch tensor, which changes when the model goes on."""

_COMPILED = "_orig_mod"
"""Where torch.compile keeps the module it wraps."""


class CallRecorder:
    """Hands on the tensors of one call: inputs, then what each module or operator returns.

    A module is called by its path in the outermost one ("layer1.0.conv1"), that one by its class.
    What is called again gets a number: "cell", "cell#2". The parts of a tuple, list, dict or
    dataclass follow behind a dot: "lstm.0", "lstm.1.0". Operators are "<module>/<operator>#<n>".
    """

    def __init__(self, root: Any, level: Level, receive: Receive) -> None:
        """Name the modules.

        Args:
            root: The outermost nn.Module.
            level: "module": what each module returns. "operator": what each ATen operator returns,
                views of weights left out, and what the outermost module returns.
            receive: Called for each tensor, on the thread of the model.
        """
        self.root = root
        self.untapped: dict[str, str] = {}
        self._level = level
        self._receive = receive
        self._paths = {id(module): _plain_path(path) for path, module in root.named_modules()}
        self._root_name = type(getattr(root, _COMPILED, root)).__name__
        self._weights = _storages(root)
        self._counts: Counter[str] = Counter()
        self._stack: list[tuple[str, str]] = []
        self._open: list[str] = []
        self._order = 0
        self._mode: Any = None

    def begin(self, names: dict[str, Any]) -> None:
        """Note the inputs, then listen to the operators if they are asked for.

        Args:
            names: The arguments of the call by name.
        """
        for name, value in names.items():
            for path, tensor in _parts(value):
                self._hand_on(_joined(f"input.{name}", path), "", "input", tensor)
        if self._level == "operator":
            self._mode = _operator_mode(self)
            self._mode.__enter__()

    def end(self) -> None:
        """Listen no more."""
        mode, self._mode = self._mode, None
        if mode is not None:
            mode.__exit__(None, None, None)

    def enter(self, module: Any) -> None:
        """Note that a module begins to run."""
        path = self._paths.get(id(module), f"({type(module).__name__})")
        self._stack.append((path, type(module).__qualname__))
        self._open.append(self._counted(path or self._root_name))

    def leave(self, module: Any, output: Any, *, failed: bool) -> None:
        """Note what a module returned; nothing where it failed."""
        name = self._open.pop()
        is_root = module is self.root
        if is_root:
            self.end()
        if not failed and (is_root or self._level == "module"):
            self._returned(name, f"{type(module).__module__}.{type(module).__qualname__}", output)
        self._stack.pop()

    def _returned(self, name: str, op: str, output: Any) -> None:
        kind: TapKind = "output" if len(self._stack) == 1 else "value"
        parts = list(_parts(output))
        for path, tensor in parts:
            self._hand_on(_joined(name, path), op, kind, tensor)
        if not parts:
            self.untapped[name] = f"returns no tensor: {type(output).__name__}"

    def operator(self, target: Any, result: Any) -> None:
        """Note what an operator returned."""
        tensors = [(path, one) for path, one in _parts(result) if not self._is_weight(one)]
        if not tensors:
            return
        path = self._stack[-1][0] or self._root_name
        base = f"{path}/{target}"
        self._counts[base] += 1
        for part, tensor in tensors:
            name = _joined(f"{base}#{self._counts[base]}", part)
            self._hand_on(name, str(target), "value", tensor)

    def _is_weight(self, tensor: Any) -> bool:
        return bool(self._weights) and _storage(tensor) in self._weights

    def _counted(self, name: str) -> str:
        self._counts[name] += 1
        count = self._counts[name]
        return name if count == 1 else f"{name}#{count}"

    def _hand_on(self, name: str, op: str, kind: TapKind, tensor: Any) -> None:
        where, _ = (None, False) if kind == "input" else current_location()
        module, module_class = self._stack[-1] if self._stack else ("", "")
        tap = Tap(
            name=name,
            order=self._order,
            op=op,
            kind=kind,
            module=module,
            module_class=module_class,
            source="" if where is None else str(where),
            code="" if where is None else where.code,
        )
        self._order += 1
        self._receive(tap, tensor)


def _plain_path(path: str) -> str:
    return path.removeprefix(_COMPILED).removeprefix(".") if path.startswith(_COMPILED) else path


def _parts(value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    flat = flatten_outputs(value)
    yield from zip(flat.paths, flat.tensors, strict=True)


def _joined(name: str, path: tuple[str | int, ...]) -> str:
    return ".".join([name, *map(str, path)])


def _storages(root: Any) -> frozenset[int]:
    tensors = [*root.parameters(), *root.buffers()]
    return frozenset(map(_storage, tensors)) - {0}


def _storage(tensor: Any) -> int:
    try:
        return int(tensor.untyped_storage().data_ptr())
    except (NotImplementedError, RuntimeError):  # sparse tensors and the like have none
        return 0


def _operator_mode(recorder: CallRecorder) -> Any:
    """Return a torch mode that tells a recorder of every operator."""
    return _mode_class()(recorder)


@functools.cache
def _mode_class() -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Listening(TorchDispatchMode):  # type: ignore[misc] # torch is untyped here
        def __init__(self, recorder: CallRecorder) -> None:
            super().__init__()
            self._recorder = recorder

        def __torch_dispatch__(
            self,
            func: Any,
            types: Any,
            args: Any = (),
            kwargs: Any = None,
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            self._recorder.operator(func, result)
            return result

    return Listening
