"""Keep the exporters' log lines off the screen, and what they really warn of in a list."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator

from shipway.source.locations import short_path

__all__ = ["collect_warnings"]

_FAMILIES = ("torch", "onnxscript", "onnx_ir")
_NOISE = re.compile(
    r"""torchvision\ is\ not\ installed
      | You\ are\ using\ the\ legacy\ TorchScript-based\ ONNX\ export   # the user asked for it
      | The\ feature\ will\ be\ removed\.\ Please\ remove\ usage
      | isinstance\(treespec,\ LeafSpec\)
      | Symbol\ \w+\ did\ not\ appear\ in\ the\ graph
      | _flat_weights\[0\].*were\ assigned\ during\ export   # of nn.LSTM; put back afterwards
      | version\ conversion\ is\ not\ supported\ by\ the\ onnxscript   # the opset is checked anyway
      | Failed\ to\ convert\ the\ model\ to\ the\ target\ version
      | Skipped\ deduplication\ of\ initializer
      | Unable\ to\ find\ user\ code\ corresponding\ to   # the error that follows says it better
      | has\ None\ output\.\ The\ output\ is\ ignored    # Shipway lists it under its name
    """,
    re.VERBOSE,
)
_LIBRARY_WARNINGS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)


class _Recorder(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first line; torch appends whole tracebacks and graphs."""
        self._found.append(record.getMessage().strip().partition("\n")[0])


@contextlib.contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the warnings of the block, without what is known to mean nothing here.

    Log records of torch and the ONNX exporters from WARNING up, and Python warnings, go to the list
    that is yielded, each once; it is complete when the block ends. Their loggers are put back
    afterwards. With TORCH_LOGS set, torch's logs are left alone: the user wants to see them. What
    the block prints is dropped: torch prints graphs, and a traced `forward` has no business on
    stdout.
    """
    found: list[str] = []
    kept: list[str] = []
    with (
        _logs_to(_Recorder(found)),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        try:
            yield kept
        finally:
            found += [_describe(item) for item in caught if not _is_internal(item)]
            kept += dict.fromkeys(text for text in found if not _NOISE.search(text))


@contextlib.contextmanager
def _logs_to(recorder: logging.Handler) -> Iterator[None]:
    if os.environ.get("TORCH_LOGS"):
        yield
        return
    for family in _FAMILIES:
        logging.getLogger(family)
    loggers = [
        logger
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
        and name.partition(".")[0] in _FAMILIES
        and (name in _FAMILIES or logger.handlers)
    ]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [recorder], False
    try:
        yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate


def _is_internal(item: warnings.WarningMessage) -> bool:
    """Whether a library warns its own authors, which no user of a model can act on."""
    from_library = short_path(item.filename).startswith(_FAMILIES) or item.filename.startswith("<")
    return issubclass(item.category, _LIBRARY_WARNINGS) and from_library


def _describe(item: warnings.WarningMessage) -> str:
    text = str(item.message).strip().partition("\n")[0]
    return f"{text} ({short_path(item.filename)}:{item.lineno})"
