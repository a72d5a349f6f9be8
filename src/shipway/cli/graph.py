"""The `shipway graph` commands: one file each."""

from __future__ import annotations

from cyclopts import App

__all__ = ["graph"]

graph = App(
    name="graph",
    help="""ONNX graphs: read, edit, cut and compare them, prove edits, check what they declare.

```
shipway graph inspect model.onnx --size batch=1
shipway graph find model.onnx --type Conv --module "blocks.1.*"
shipway graph extract model.onnx --inputs hidden --outputs logits --prove
shipway graph edit model.onnx set-domain --domain npu --version 1 --prove
shipway graph diff before.onnx after.onnx
shipway graph prove before.onnx after.onnx
shipway graph audit model.onnx
```
""",
    version_flags=(),  # edits have a --version of their own: that of an opset
    help_format="markdown",
    result_action="return_value",
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
)
for _name in ("audit", "diff", "edit", "extract", "find", "inspect", "prove"):
    graph.command(f"shipway.cli.graph_{_name}:{_name}", name=_name)
