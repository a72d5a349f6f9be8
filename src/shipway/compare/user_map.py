"""A user's own map of tensors, in YAML or JSON."""

from __future__ import annotations

from pathlib import Path

from shipway.errors import UsageError

__all__ = ["read_user_map"]


def read_user_map(path: Path) -> dict[str, str]:
    """Read pairs "tensor of the engine: tensor of golden".

    Args:
        path: A YAML file; JSON is YAML.

    Raises:
        UsageError: The file is absent, is no YAML, or holds anything but pairs of names.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = str(error).partition("\n")[0]
        raise UsageError(f"{path} is not valid YAML: {line}.") from error
    if not isinstance(data, dict) or not data:
        raise UsageError(
            f"{path} holds no pairs of names.",
            hint="One a line: tensor_of_engine: tensor_of_golden",
        )
    for name, golden in data.items():
        if not isinstance(name, str) or not isinstance(golden, str):
            raise UsageError(
                f"{path} pairs {name!r} with {golden!r}; both must be names.",
                hint='Put a name that looks like a number in quotes: "12": relu',
            )
    return data
