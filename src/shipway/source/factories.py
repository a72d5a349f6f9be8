"""From a name in the user's code to one module: an instance, a class, or what a factory returns."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from shipway.errors import ModelError, UsageError
from shipway.source.imports import Workspace
from shipway.source.quoting import quote_errors

__all__ = ["TORCHSCRIPT_HINT", "as_module", "describe_candidates", "make_module"]

TORCHSCRIPT_HINT = (
    "TorchScript is not supported: give the Python code of the model (file.py:name) and its weights "
    "with --weights, or save it with torch.export.save(program, 'model.pt2')."
)
_SHOWN = 8
_MISSING = object()


def make_module(space: Workspace, target: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """Return the torch module that a name in the user's code is or makes, without wrappers.

    Args:
        space: Where the user's code was imported.
        target: The file or module as the user wrote it, for messages and hints.
        name: A name in it; dots go into classes.
        arguments: Keyword arguments for a class or factory.

    Raises:
        UsageError: No name given, or arguments that the factory does not take.
        ModelError: No such name, the factory raises, or it returns something that is no module.
    """
    code = space.imported
    if not name:
        raise UsageError(f"{target} needs a name: which model in it?", hint=_hint(code, target))
    reference = f"{target}:{name}"
    found = _look_up(code, target, name)
    if _is_module(found):
        if arguments:
            raise UsageError(
                f"{reference} is a module already; it takes no arguments.",
                hint=f"Leave out --arg {next(iter(arguments))}=..., or name its class instead.",
            )
        return as_module(_own_copy(found, space), f"{reference} is")
    if not callable(found):
        raise ModelError(
            f"{reference} is a {type(found).__name__}, not a module, a module class or a factory.",
            hint=_hint(code, target),
        )
    _check_arguments(found, reference, arguments)
    with quote_errors(reference):
        made = found(**arguments)
    return as_module(made, f"{reference} returned")


def as_module(value: Any, subject: str) -> Any:
    """Return a value that must be a torch module, taken out of torch.compile and DataParallel.

    Those compute the same numbers, but their names are not the user's.

    Args:
        value: What was found, made or read.
        subject: Start of the sentence that refuses it, say "net.py:make returned".

    Raises:
        ModelError: It is no torch module, or a TorchScript one.
    """
    import torch

    if not _is_module(value):
        raise ModelError(
            f"{subject} {_described(value)}, not a torch.nn.Module.", hint=_return_hint(value)
        )
    if isinstance(value, torch.jit.ScriptModule):
        raise ModelError(f"{subject} a TorchScript module.", hint=TORCHSCRIPT_HINT)
    if isinstance(value, torch.nn.DataParallel):
        return as_module(value.module, subject)
    if type(value).__name__ == "OptimizedModule":
        return as_module(value._orig_mod, subject)  # noqa: SLF001 - torch.compile has no public way back
    return value


def describe_candidates(code: ModuleType) -> dict[str, str]:
    """Return the public names of a module that may be a model, with what each is.

    Instances come first, then classes, then functions (a factory, perhaps).
    """
    public = {name: value for name, value in vars(code).items() if not name.startswith("_")}
    own = {n: v for n, v in public.items() if getattr(v, "__module__", None) == code.__name__}
    found = {name: "module" for name, value in public.items() if _is_module(value)}
    found |= {name: "class" for name, value in own.items() if _is_module_class(value)}
    return found | {name: "function" for name, value in own.items() if inspect.isfunction(value)}


def _is_module(value: Any) -> bool:
    from torch import nn

    return isinstance(value, nn.Module)


def _is_module_class(value: Any) -> bool:
    from torch import nn

    return inspect.isclass(value) and issubclass(value, nn.Module)


def _hint(code: ModuleType, target: str) -> str:
    found = [f"{name} ({what})" for name, what in describe_candidates(code).items()]
    if not found:
        return (
            f"{target} has no module, module class or function; write one that returns the model."
        )
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"Give {target}:NAME with NAME one of: {', '.join(found[:_SHOWN])}{more}."


def _look_up(code: ModuleType, target: str, name: str) -> Any:
    found: Any = code
    parts = name.split(".")
    for position, part in enumerate(parts):
        owner, found = found, _attribute(found, part, f"{target}:{name}")
        if found is _MISSING:
            above = ".".join(parts[:position])
            raise _no_such_name(code, owner, target, above, part)
    return found


def _attribute(owner: Any, name: str, reference: str) -> Any:
    with quote_errors(reference):  # a module-level __getattr__ is the user's code
        return getattr(owner, name, _MISSING)


def _no_such_name(code: ModuleType, owner: Any, target: str, above: str, name: str) -> ModelError:
    names = [each for each in dir(owner) if not each.startswith("_")]
    near = difflib.get_close_matches(name, names, n=3)
    meant = " or ".join(f"{target}:{above}{'.' if above else ''}{each}" for each in near)
    return ModelError(
        f"There is no '{name}' in {target}{':' if above else ''}{above}.",
        hint=f"Did you mean {meant}?" if near else _hint(code, target),
    )


def _own_copy(module: Any, space: Workspace) -> Any:
    """Copy an instance, so that eval mode and weights do not change the user's own object.

    Some modules cannot be copied (old weight_norm keeps computed tensors). Such a one is used
    itself, and its code is executed anew by the next load.
    """
    try:
        return copy.deepcopy(module)
    except Exception:  # noqa: BLE001 - a __deepcopy__ of the user's may raise anything
        space.reusable = False
        return module


def _check_arguments(
    factory: Callable[..., Any], reference: str, arguments: Mapping[str, Any]
) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # a built-in without a signature: the call itself will say
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        takes = signature.replace(return_annotation=inspect.Signature.empty)
        raise UsageError(
            f"{reference} cannot be called with {_listed(arguments)}: {error}. It takes {takes}.",
            hint=_argument_hint(signature, arguments),
        ) from error


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(arguments) or "no arguments"


def _argument_hint(signature: inspect.Signature, arguments: Mapping[str, Any]) -> str:
    for name in arguments:
        near = difflib.get_close_matches(name, signature.parameters, n=1)
        if name not in signature.parameters and near:
            return f"Did you mean --arg {near[0]}=...?"
    needed = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        and parameter.name not in arguments
    ]
    return f"Give {' '.join(f'--arg {name}=VALUE' for name in needed)}." if needed else ""


def _described(made: Any) -> str:
    if made is None:
        return "None"
    if inspect.isclass(made):
        return f"the class {made.__name__}"
    if isinstance(made, tuple | list):
        return f"a {type(made).__name__} ({', '.join(type(item).__name__ for item in made[:5])})"
    return f"a {type(made).__name__}"


def _return_hint(made: Any) -> str:
    if made is None:
        return "Is a return missing at its end?"
    if _is_module_class(made):
        return f"Return an instance: return {made.__name__}()."
    if isinstance(made, tuple | list) and any(_is_module(item) for item in made):
        return "Write a factory that returns the module alone."
    if type(made).__name__ == "ExportedProgram":
        return "Save it with torch.export.save(program, 'model.pt2') and give model.pt2."
    return "Write a factory that builds the module and returns it."
