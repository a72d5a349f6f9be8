"""Sizes that the file allows and at which the model does not run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from shipway.proof.audit_declared import sizes_words
from shipway.proof.audit_places import Places
from shipway.proof.audit_results import AuditFinding, Seen
from shipway.proof.audit_sizes import SizeTrials

__all__ = ["find_failures"]

_PREFIX = re.compile(r"^ONNX Runtime failed while running: ")
_LONGEST = 160


def find_failures(
    trials: SizeTrials, places: Places, first_axes: Collection[str]
) -> Iterator[AuditFinding]:
    """Find the sizes at which a model fails.

    A dimension of which no other size above 1 runs is fixed, whatever the file says; a smallest
    size, or a multiple, is not.

    Args:
        trials: What was tried.
        places: Where values come from.
        first_axes: Dimensions that count samples.
    """
    for group in trials.ties.values():
        names = ", ".join(f"'{name}'" for name in group)
        yield AuditFinding(
            "warning",
            "equal-names",
            group[0],
            f"The sizes {names} must be equal, and the file does not say so.",
            declared=", ".join(group),
            hint=f"Give them one name: shipway graph edit MODEL change-shape --value INPUT --shape "
            f"{_plain(group[0])},...",
        )
    for name, failed in trials.failed.items():
        if failed:
            yield _one(name, failed, trials, places, name in first_axes)
    for sizes, why in trials.together:
        yield AuditFinding(
            "warning",
            "fails",
            ", ".join(sizes),
            f"The model fails at {sizes_words(sizes)}, each of which runs alone: {_short(why)}",
            seen=(Seen(sizes, _short(why)),),
            place=places.of_failure(why),
        )


def _one(
    name: str, failed: Mapping[int, str], trials: SizeTrials, places: Places, counts_samples: bool
) -> AuditFinding:
    usual, ran = trials.usual[name], trials.ran[name]
    # What says most is the failure at a larger size: at a small one a kernel may not fit.
    size = max(failed)
    why = _short(failed[size])
    fixed = not any(other > 1 and other != usual for other in ran) and any(
        other > usual for other in failed
    )
    seen = tuple(Seen(trials.usual | {name: one}, _short(why)) for one, why in failed.items())
    place = places.of_failure(failed[size])
    if fixed:
        return AuditFinding(
            "error",
            "fixed-dim",
            name,
            f"The dimension '{name}' is declared dynamic, and the model runs at {_either(ran)} only; "
            f"at {size}: {why}",
            name,
            seen,
            place,
            f"Mend that line and export again, or declare the size: shipway graph edit MODEL "
            f"change-shape --value INPUT --shape {usual},...",
        )
    return AuditFinding(
        "warning",
        "fails",
        name,
        f"The model does not run at {name}={_either(sorted(failed))}; it does at {_either(ran)}: {why}",
        name,
        seen,
        place,
        "If each sample is to be computed alone, mend that line."
        if counts_samples
        else f"Say what sizes it takes where the model is described, or --size {name}=NUMBER for a "
        "usual one.",
    )


def _either(sizes: Sequence[int]) -> str:
    *others, last = map(str, sizes)
    return f"{', '.join(others)} or {last}" if others else last


def _short(why: str) -> str:
    text = _PREFIX.sub("", why)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _plain(name: str) -> str:
    return name if name.isidentifier() else "batch"
