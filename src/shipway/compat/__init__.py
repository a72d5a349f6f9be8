"""Drop-ins for scripts written for other graph tools, thin, on Shipway's own graphs.

`python -m shipway.compat script.py ARGS` runs an unmodified script that imports MagicONNX or
msit's auto_optimizer. Those tools wire nodes by name: an input is a text, and what it means is
settled when the model is saved. The drop-ins do the same on top of an `onnx_ir` model: attributes,
constants, types and domains go straight into the model, wires are kept as names and tied when the
model is needed whole. Names that are taken or lead nowhere are found there, and said.
"""
