"""The graph in a TFLite file, read from its bytes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_archs.errors import InputError


def _names(kind: type) -> dict[int, str]:
    return {value: name for name, value in vars(kind).items() if isinstance(value, int)}


OPERATORS, TYPES = _names(schema.BuiltinOperator), _names(schema.TensorType)
CHANGES_OF_TYPE = {"QUANTIZE", "DEQUANTIZE"}


@dataclass(frozen=True)
class Tensor:
    """An input or output of an operator.

    Attributes:
        name: as the converter chose it.
        dtype: lower-case name of the type in the file, such as `int4`.
        shape: its shape; what is not known before the file runs is -1.
        constant: whether the file holds its values, as it does those of weights.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    constant: bool

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join('?' if n < 0 else str(n) for n in self.shape)}]"


@dataclass(frozen=True)
class Node:
    """An operator as the file has it; tensors by their number."""

    name: str
    version: int
    custom: bool
    inputs: list[int]
    outputs: list[int]


@dataclass(frozen=True)
class Graph:
    """The steps of a file, in their order, its tensors, and which of them it gives."""

    nodes: list[Node]
    tensors: list[Tensor]
    outputs: list[int]

    @classmethod
    def read(cls, content: bytes) -> "Graph":
        """The graph of a file.

        Raises:
            InputError: the file is damaged, or has control flow (more than one graph).
        """
        # The reader of the format trusts what it reads; the interpreter checks it.
        try:
            Interpreter(model_content=content)
        except (ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"content ({len(content)} bytes) is no working TFLite file: {reason}"
            ) from error
        model = schema.Model.GetRootAs(content)
        if model.SubgraphsLength() != 1:
            raise InputError(
                f"content must have one graph, got {model.SubgraphsLength()}: it has loops,"
                " conditions or variables that change."
            )
        graph = model.Subgraphs(0)
        return cls(
            [_node(model, graph.Operators(i)) for i in range(graph.OperatorsLength())],
            [_tensor(model, graph.Tensors(i)) for i in range(graph.TensorsLength())],
            [int(i) for i in graph.OutputsAsNumpy()],
        )

    def gives_probabilities(self) -> bool:
        """Whether what it gives comes out of a softmax or sigmoid, but for its type and shape."""
        makers = {index: node for node in self.nodes for index in node.outputs}
        node = makers.get(self.outputs[0])
        while node and node.name in {*CHANGES_OF_TYPE, "RESHAPE", "SQUEEZE"}:
            node = makers.get(node.inputs[0])
        return node is not None and node.name in {"SOFTMAX", "LOGISTIC"}

    def activations(self) -> list[int]:
        """The tensors that depend on the image, input and output among them."""
        known = {index for index, tensor in enumerate(self.tensors) if tensor.constant}
        for node in self.nodes:
            if known.issuperset(node.inputs):  # weights in float16 that are made float32, say
                known.update(node.outputs)
        used = {index for node in self.nodes for index in (*node.inputs, *node.outputs)}
        return sorted(used - known)

    def between(self, inputs: Iterable[int], outputs: Iterable[int]) -> set[int]:
        """The nodes that it takes to compute some tensors from others."""
        makers = {index: number for number, node in enumerate(self.nodes) for index in node.outputs}
        known, wanted, found = set(inputs), list(outputs), set()
        while wanted:
            index = wanted.pop()
            if index not in known and index in makers:
                known.add(index)
                found.add(makers[index])
                wanted += self.nodes[makers[index]].inputs
        return found


def _node(model: Any, node: Any) -> Node:
    code = model.OperatorCodes(node.OpcodeIndex())
    # Files from before there were more than 127 operators have the number in another field.
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    custom = builtin == schema.BuiltinOperator.CUSTOM
    return Node(
        (code.CustomCode() or b"CUSTOM").decode() if custom else OPERATORS[builtin],
        code.Version(),
        custom,
        [int(i) for i in node.InputsAsNumpy() if i >= 0] if node.InputsLength() else [],
        [int(i) for i in node.OutputsAsNumpy()] if node.OutputsLength() else [],
    )


def _tensor(model: Any, tensor: Any) -> Tensor:
    shape = tensor.ShapeSignatureAsNumpy() if tensor.ShapeSignatureLength() else ()
    if not tensor.ShapeSignatureLength() and tensor.ShapeLength():
        shape = tensor.ShapeAsNumpy()
    buffer = model.Buffers(tensor.Buffer())
    return Tensor(
        (tensor.Name() or b"").decode(),
        TYPES[tensor.Type()].lower(),
        tuple(map(int, shape)),
        buffer.DataLength() > 0 or buffer.Size() > 0,
    )
