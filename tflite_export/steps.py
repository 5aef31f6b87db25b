"""The steps of a TFLite file, and the Keras layers that they come from."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from .file_graph import CHANGES_OF_TYPE, Graph

# TensorFlow numbers the scopes that a layer opens.
_NUMBER = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Step:
    """An operator of a file.

    Attributes:
        tensor: name of its first output.
        is_last: whether that is the output of the file, but for a change of type.
        computes_in_float: whether it gives float32, other than for a change of type.
    """

    tensor: str
    is_last: bool
    computes_in_float: bool

    def layers(self, known: Collection[str], last: Collection[str]) -> set[str]:
        """Which of the layers with `known` names it does a part of; `last` are those at the end.

        The converter joins the names of what it joins, "net/relu/Relu6;net/conv/convolution",
        and gives the output of the file a name of its own.
        """
        if self.is_last:
            return set(last)
        scopes = {part for path in self.tensor.split(";") for part in path.split("/")[:-1]}
        # "conv_1" is the first scope of "conv" even if there is a layer "conv_1", whose own is
        # "conv_1_1" then.
        names = (
            next((n for n in (_NUMBER.sub("", scope), scope) if n in known), None)
            for scope in scopes
        )
        return {name for name in names if name}


def steps(content: bytes) -> list[Step]:
    """The operators of a TFLite file, in their order; see `Graph.read`."""
    graph = Graph.read(content)
    ends, found = set(graph.outputs), []
    for node in reversed(graph.nodes):
        index, changes_type = node.outputs[0], node.name in CHANGES_OF_TYPE
        is_last = index in ends
        if is_last and changes_type:
            ends.update(node.inputs)
        tensor = graph.tensors[index]
        in_float = tensor.dtype == "float32" and not changes_type
        found.append(Step(tensor.name, is_last, in_float))
    return found[::-1]
