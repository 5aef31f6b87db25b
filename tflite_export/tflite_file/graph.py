"""Reads the graph of a TFLite file from its bytes."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_archs.errors import InputError


def _names(kind: type) -> dict[int, str]:
    return {value: name for name, value in vars(kind).items() if isinstance(value, int)}


OPERATORS, TYPES = _names(schema.BuiltinOperator), _names(schema.TensorType)
CHANGES_OF_TYPE = {"QUANTIZE", "DEQUANTIZE"}
# TensorFlow numbers the scopes that a layer opens.
_NUMBER = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Tensor:
    """An input or output of an operator.

    Attributes:
        index: its index in the file.
        name: the name that the converter chose.
        dtype: lower-case name of the type in the file, such as `int4`.
        shape: its shape; sizes that are unknown before the file runs are -1.
        constant: whether the file holds its values, as for weights.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    constant: bool

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join('?' if n < 0 else str(n) for n in self.shape)}]"


@dataclass(frozen=True)
class Operator:
    """An operator of a TFLite file.

    Attributes:
        name: name of a built-in operator, such as `CONV_2D`, or of a custom one, such as
            `FlexErf`.
        version: version of the operator; older runtimes only know lower versions.
        custom: whether it is a custom operator, which a plain runtime cannot run.
        inputs: the tensors that it reads, including weights.
        outputs: the tensors that it computes.
        is_last: whether it computes the output of the file, up to a change of type.
        xnnpack: whether XNNPACK, the delegate for CPUs, takes it; `delegates.operators` sets this,
            otherwise it is None.
        gpu: whether the GPU delegate takes it, see `delegates.gpu_takes`; otherwise None.
    """

    name: str
    version: int
    custom: bool
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    is_last: bool = False
    xnnpack: bool | None = None
    gpu: bool | None = None

    def __str__(self) -> str:
        inputs, outputs = (", ".join(map(str, side)) for side in (self.inputs, self.outputs))
        return f"{self.name}({inputs}) -> {outputs}"

    @property
    def tensor(self) -> str:
        """The name of its first output."""
        return self.outputs[0].name

    @property
    def changes_type(self) -> bool:
        """Whether it only changes the type of a tensor."""
        return self.name in CHANGES_OF_TYPE

    @property
    def computes_in_float(self) -> bool:
        """Whether it gives float32 and is not a change of type."""
        return self.outputs[0].dtype == "float32" and not self.changes_type

    def layers(self, known: Collection[str], last: Collection[str]) -> set[str]:
        """The Keras layers that it computes, or computes a part of.

        The converter joins the names of operators that it fuses, as in
        "net/relu/Relu6;net/conv/convolution". It gives the output of the file a new name.

        Args:
            known: names of all layers.
            last: names of the layers at the end of the model.
        """
        if self.is_last:
            return set(last)
        scopes = {part for path in self.tensor.split(";") for part in path.split("/")[:-1]}
        # "conv_1" is the first scope of "conv", even if a layer has the name "conv_1". That layer's
        # scope is then "conv_1_1".
        names = (
            next((n for n in (_NUMBER.sub("", scope), scope) if n in known), None)
            for scope in scopes
        )
        return {name for name in names if name}


@dataclass(frozen=True)
class Graph:
    """The operators of a file in order, its tensors, and the indices of its outputs."""

    operators: list[Operator]
    tensors: list[Tensor]
    outputs: list[int]

    @classmethod
    def read(cls, content: bytes) -> "Graph":
        """The graph of a file.

        Raises:
            InputError: the file is damaged, or has control flow (more than one graph).
        """
        # The reader of the format does not check the bytes; the interpreter does.
        try:
            Interpreter(model_content=content)
        except (ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"content ({len(content)} bytes) is not a working TFLite file: {reason}"
            ) from error
        model = schema.Model.GetRootAs(content)
        if model.SubgraphsLength() != 1:
            raise InputError(
                f"content must have one graph, got {model.SubgraphsLength()}: the model has loops,"
                " conditions or variables that change."
            )
        graph = model.Subgraphs(0)
        tensors = [_tensor(model, graph, i) for i in range(graph.TensorsLength())]
        outputs = [int(i) for i in graph.OutputsAsNumpy()]
        operators, last = [], set(outputs)
        for i in reversed(range(graph.OperatorsLength())):
            operator = _operator(model, graph.Operators(i), tensors)
            is_last = operator.outputs[0].index in last
            if is_last and operator.changes_type:
                last.update(tensor.index for tensor in operator.inputs)
            operators.append(replace(operator, is_last=is_last))
        return cls(operators[::-1], tensors, outputs)

    def gives_probabilities(self) -> bool:
        """Whether the output is that of a softmax or sigmoid, up to its type and shape."""
        makers = {tensor.index: maker for maker in self.operators for tensor in maker.outputs}
        operator = makers.get(self.outputs[0])
        while operator and (operator.changes_type or operator.name in {"RESHAPE", "SQUEEZE"}):
            operator = makers.get(operator.inputs[0].index)
        return operator is not None and operator.name in {"SOFTMAX", "LOGISTIC"}

    def activations(self) -> list[int]:
        """The tensors that depend on the image, including input and output."""
        known = {tensor.index for tensor in self.tensors if tensor.constant}
        used = set()
        for operator in self.operators:
            inputs, outputs = _indices(operator.inputs), _indices(operator.outputs)
            if known >= inputs:  # such as weights cast from float16 to float32
                known |= outputs
            used |= inputs | outputs
        return sorted(used - known)

    def between(self, inputs: Iterable[int], outputs: Iterable[int]) -> set[int]:
        """The numbers of the operators that compute some tensors from others."""
        makers = {
            index: number
            for number, operator in enumerate(self.operators)
            for index in _indices(operator.outputs)
        }
        known, wanted, numbers = set(inputs), list(outputs), set()
        while wanted:
            index = wanted.pop()
            if index not in known and index in makers:
                known.add(index)
                numbers.add(makers[index])
                wanted += _indices(self.operators[makers[index]].inputs)
        return numbers


def _indices(tensors: Iterable[Tensor]) -> set[int]:
    return {tensor.index for tensor in tensors}


def _operator(model: Any, operator: Any, tensors: Sequence[Tensor]) -> Operator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Old files, from when there were at most 127 operators, have the code in another field.
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    custom = builtin == schema.BuiltinOperator.CUSTOM
    inputs = operator.InputsAsNumpy() if operator.InputsLength() else []
    outputs = operator.OutputsAsNumpy() if operator.OutputsLength() else []
    return Operator(
        (code.CustomCode() or b"CUSTOM").decode() if custom else OPERATORS[builtin],
        code.Version(),
        custom,
        tuple(tensors[i] for i in inputs if i >= 0),
        tuple(tensors[i] for i in outputs),
    )


def _tensor(model: Any, graph: Any, index: int) -> Tensor:
    tensor = graph.Tensors(index)
    shape = tensor.ShapeSignatureAsNumpy() if tensor.ShapeSignatureLength() else ()
    if not tensor.ShapeSignatureLength() and tensor.ShapeLength():
        shape = tensor.ShapeAsNumpy()
    buffer = model.Buffers(tensor.Buffer())
    return Tensor(
        index,
        (tensor.Name() or b"").decode(),
        TYPES[tensor.Type()].lower(),
        tuple(map(int, shape)),
        buffer.DataLength() > 0 or buffer.Size() > 0,
    )
