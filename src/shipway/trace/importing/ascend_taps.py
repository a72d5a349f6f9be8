"""What is known of a tensor of an Ascend dump: from its file, and from the maps that were given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shipway.engines.tapping import Tap, TapKind
from shipway.trace.importing.origins import Origin, Origins, chain, node_output_names

__all__ = ["Place", "describe"]

_AS_IN_THE_MODEL = frozenset({"", "NCHW", "NCDHW", "ND", "RESERVED"})


class Place(NamedTuple):
    """Where a tensor was dumped, and what its file says of its origin.

    Args:
        op_type: Type of the operator.
        op_name: Its name in the compiled model, sanitised or not.
        side: "input" or "output".
        position: Which of its inputs or outputs.
        format_name: How the device holds it; "" where that is not known.
        origin: Operator of the model that it is an output of; "" where the file does not say.
        origin_position: Which of its outputs.
    """

    op_type: str
    op_name: str
    side: str
    position: int
    format_name: str = ""
    origin: str = ""
    origin_position: int = 0


def describe(place: Place, maps: Sequence[Origins]) -> Tap:
    """Return the tap of a tensor; its place in the order is still to be given.

    Names come from the maps; where none of them knows the operator, from the origin in the file;
    without a map that lists the compiler's operators, from the compiler's own name, which is that of
    the model where nothing was fused.
    """
    tap = Tap(
        name=f"{place.op_name}:{place.side}:{place.position}",
        order=0,
        op=place.op_type,
        kind=_kind(place),
        layout="" if place.format_name in _AS_IN_THE_MODEL else place.format_name,
    )
    if place.side == "input":
        found = [one.find_input(place.op_name, place.position) for one in maps]
        origin = next((one for one in found if one is not None), Origin())
        return Origin(names=origin.names).onto(tap)
    return _output_origin(place, maps).onto(tap)


def _kind(place: Place) -> TapKind:
    if place.op_type == "Data":
        return "input"
    return "output" if place.op_type == "NetOutput" and place.side == "input" else "value"


def _output_origin(place: Place, maps: Sequence[Origins]) -> Origin:
    found = chain(maps, place.op_name, place.position)
    if found is not None:
        return found
    if place.origin:
        known = chain(maps, place.origin, place.origin_position) or Origin()
        return Origin(names=(*known.names, *node_output_names(place.origin, place.origin_position)))
    if any(one.is_complete for one in maps):
        return Origin()
    return Origin(names=node_output_names(place.op_name, place.position))
