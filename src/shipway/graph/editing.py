"""Editing graphs: functions on an `onnx_ir.Model`, all in one place.

They change the model in place, work inside If, Loop and functions too, keep nodes sorted and names
unique, and give the metadata of what goes to what comes. `locate_node` and `locate_value` take
names to objects; every function takes either.
"""

from __future__ import annotations

from shipway.graph.domains import set_domain, unify_domain
from shipway.graph.editing_nodes import (
    add_node,
    insert_node,
    reconnect,
    remove_node,
    remove_unused,
    replace_node,
    set_attribute,
)
from shipway.graph.editing_values import (
    add_constant,
    add_input,
    add_output,
    change_dtype,
    change_shape,
    remove_input,
    remove_output,
    replace_constant,
)
from shipway.graph.extracting import Extraction, extract_graph
from shipway.graph.finding import NodeQuery, find_nodes, find_pattern
from shipway.graph.functions import inline_functions, outline_function
from shipway.graph.joining import join_graphs
from shipway.graph.locating import locate_node, locate_value
from shipway.graph.naming import rename_node, rename_value, unify_names
from shipway.graph.opsets import OpsetChange, convert_opset
from shipway.graph.ordering import sort_graph
from shipway.graph.rewriting import rewrite

__all__ = [
    "Extraction",
    "NodeQuery",
    "OpsetChange",
    "add_constant",
    "add_input",
    "add_node",
    "add_output",
    "change_dtype",
    "change_shape",
    "convert_opset",
    "extract_graph",
    "find_nodes",
    "find_pattern",
    "inline_functions",
    "insert_node",
    "join_graphs",
    "locate_node",
    "locate_value",
    "outline_function",
    "reconnect",
    "remove_input",
    "remove_node",
    "remove_output",
    "remove_unused",
    "rename_node",
    "rename_value",
    "replace_constant",
    "replace_node",
    "rewrite",
    "set_attribute",
    "set_domain",
    "sort_graph",
    "unify_domain",
    "unify_names",
]
