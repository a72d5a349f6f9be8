"""Write a diagnosis: for programs, for spreadsheets, for viewers of graphs, and to be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from shipway.compare.diagnosis import Diagnosis
from shipway.files import write_text
from shipway.report.diagnosis_page import render_diagnosis
from shipway.report.msit_table import write_msit_csv
from shipway.report.viewers import lay_over_model_explorer, lay_over_netron

__all__ = ["write_diagnosis"]


def write_diagnosis(
    diagnosis: Diagnosis, folder: Path, *, nodes: Mapping[str, str] | None = None
) -> list[Path]:
    """Write every form of a diagnosis into `folder` and return their paths.

    diagnosis.json holds all of it; diagnosis.csv is a table in msit's columns; diagnosis.html is
    the page; model-explorer.json and netron.json lay the errors over the picture of the model.
    Each file is written whole or not at all, and all are made before the first is written.

    Args:
        diagnosis: What was found.
        folder: Made where it is absent.
        nodes: For each tensor, by golden's name or the engine's, the node that computes it in the
            graph a user looks at: see `viewers.lay_over_model_explorer`.

    Raises:
        OutputError: The folder cannot be written.
    """
    texts = {
        "diagnosis.json": _dump(diagnosis.to_json()),
        "diagnosis.csv": write_msit_csv(diagnosis),
        "diagnosis.html": render_diagnosis(diagnosis),
        "model-explorer.json": _dump(lay_over_model_explorer(diagnosis, nodes)),
        "netron.json": _dump(lay_over_netron(diagnosis, nodes)),
    }
    for name, text in texts.items():
        # A path that is not UTF-8 reaches Python with lone surrogates in it.
        write_text(folder / name, text.encode("utf-8", "backslashreplace").decode("utf-8"))
    return [folder / name for name in texts]


def _dump(data: object) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
