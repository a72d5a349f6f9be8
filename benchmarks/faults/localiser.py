"""The one place where the study meets the localiser."""

from dataclasses import dataclass

from faults.rivals import RULES
from shipway.compare.diagnose import Diagnoser
from shipway.compare.execution import read_session
from shipway.compare.links import explain_values, link_names
from shipway.compare.options import DiagnoseOptions
from shipway.export.name_map import read_name_map
from shipway.trace.shelf import Shelf

__all__ = ["Found", "Localiser"]


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one execution.

    Args:
        diagnosis: The localiser's.
        taps: What the engine showed.
        tensors: The values of each, by its name.
        flagged: For each rival rule the first tensor it calls wrong; None where it calls none so.
        values: Golden's name to the ONNX values that hold it.
        golden: ONNX values that golden has.
    """

    diagnosis: object
    taps: tuple
    tensors: dict
    flagged: dict
    values: dict
    golden: frozenset


class Localiser:
    """Compares executions of one engine with one golden."""

    def __init__(self, golden, feeds, portable):
        """Keep the golden's values.

        Args:
            golden: What is taken as right.
            feeds: The inputs.
            portable: The clean model, with its name map.
        """
        self._golden = golden
        self._feeds = feeds
        self._name_map = None if portable.name_map is None else read_name_map(portable.name_map)
        self._right = {
            tensor.tap.name: tensor.value for tensor in golden.walk(feeds, lambda _: None)
        }
        self._diagnoser = Diagnoser(golden, feeds)

    def learn(self, session):
        """Read a clean f32 build in the engine under test."""
        self._diagnoser.learn(session)

    def localise(self, session, precision):
        """Return what is found in a session."""
        name_map = self._name_map
        from_program = name_map is not None and name_map.program is not None
        links = link_names(name_map) if from_program else {}
        known = explain_values(name_map) if from_program else {}
        options = DiagnoseOptions(precision, links=links, known=known)
        with Shelf(options.max_bytes) as shelf:
            read = read_session(session, self._feeds, shelf, "the engine")
            diagnosis = self._diagnoser.diagnose(read, options)
            tensors = {tap.name: read.read(tap.name) for tap in read.taps}
            flagged = {
                rule: self._first(diagnosis.tensors, read, says) for rule, says in RULES.items()
            }
        values = self._values(links)
        golden = frozenset(value for names in values.values() for value in names)
        return Found(diagnosis, tuple(read.taps), tensors, flagged, values, golden)

    def _first(self, tensors, read, says):
        for one in tensors:
            right, found = self._right[one.golden], read.read(one.actual)
            comparable = found is not None and right.dtype.kind == "f"
            if comparable and says(right, found.reshape(right.shape)):
                return one
        return None

    def _values(self, links):
        """Return for each of golden's tensors the ONNX values that hold it."""
        if not links:
            return {tap.name: [tap.name] for tap in self._golden.taps}
        values = {}
        for value, name in links.items():
            values.setdefault(name, []).append(value)
        return {tap.name: values.get(tap.name, []) for tap in self._golden.taps}
