"""Run models in whichever ONNX Runtime this Python finds: python run_models.py LIBRARY FOLDER.

Each model.onnx in FOLDER has inputs and expected outputs in model.npz ("in NAME", "out NAME").
Prints one line a model: its name, and the largest relative L2 of an output.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

if __name__ == "__main__":
    library, folder = sys.argv[1:]
    print("version", ort.__version__)
    for model in sorted(Path(folder).glob("*.onnx")):
        arrays = np.load(model.with_suffix(".npz"))
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 2
        settings.register_custom_ops_library(library)
        session = ort.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
        feeds = {name[3:]: arrays[name] for name in arrays.files if name.startswith("in ")}
        worst = 0.0
        for value, found in zip(session.get_outputs(), session.run(None, feeds), strict=True):
            golden = arrays[f"out {value.name}"].astype(np.float64)
            size = np.linalg.norm(golden) or 1.0
            worst = max(worst, float(np.linalg.norm(found.astype(np.float64) - golden) / size))
        print(model.stem, worst)
