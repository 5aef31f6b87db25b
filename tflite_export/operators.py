"""What a TFLite file consists of, and which of its operators the delegates take."""

import contextlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_archs.errors import InputError


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
class Operator:
    """A step of a file.

    Attributes:
        index: its place among the steps.
        name: of a built-in operator, such as `CONV_2D`, or of a custom one, such as `FlexErf`.
        version: of the operator; older runtimes know lower ones only.
        custom: whether it is none of the built-in operators, so that a plain runtime cannot run
            the file.
        inputs: what it reads, weights among them.
        outputs: what it computes.
        xnnpack: whether XNNPACK, the delegate for CPUs, takes it from the interpreter.
        gpu: whether the GPU delegate can.
    """

    index: int
    name: str
    version: int
    custom: bool
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    xnnpack: bool
    gpu: bool

    def __str__(self) -> str:
        inputs, outputs = (", ".join(map(str, side)) for side in (self.inputs, self.outputs))
        return f"{self.name}({inputs}) -> {outputs}"


def operators(content: bytes) -> list[Operator]:
    """The operators of a TFLite file, in their order.

    What XNNPACK takes is read from an interpreter that has handed its part to it, so that it holds
    for the LiteRT that is installed. What the GPU delegate takes is the answer of TensorFlow's
    analyzer, which asks the delegate's own check; no GPU is needed.

    Raises:
        InputError: the file is damaged, or has control flow (more than one subgraph).
    """
    graph = _Graph.read(content)
    taken, unfit = _in_xnnpack(content, graph), _off_gpu(content)
    tensors = graph.tensors
    return [
        Operator(
            index,
            node.name,
            node.version,
            node.custom,
            tuple(tensors[i] for i in node.inputs),
            tuple(tensors[i] for i in node.outputs),
            xnnpack=index in taken,
            gpu=index not in unfit,
        )
        for index, node in enumerate(graph.nodes)
    ]


def arena_bytes(content: bytes) -> int:
    """Bytes that the interpreter lays out for a file's activations, without a delegate.

    It is read from an interpreter that was made ready to run: tensors that are not needed at the
    same time share their place there. Weights are not in it, nor is the working memory of fast
    kernels. XNNPACK plans its memory itself and tells nobody how much it takes; it has the same
    activations to keep, or fewer.

    Raises:
        InputError: the file is damaged, has a custom operator or an input of unknown size.
    """
    graph = _Graph.read(content)
    # Kernels that are made to be fast also lay out copies of their inputs.
    interpreter = _ready(content, OpResolverType.BUILTIN_REF)
    places = []
    for index in graph.activations():
        with contextlib.suppress(ValueError):  # its kernel allocates it while it runs
            values = interpreter.tensor(index)()
            start = values.__array_interface__["data"][0]
            places.append((start, start + values.nbytes))
    return max(end for _, end in places) - min(start for start, _ in places)


def _names(kind: type) -> dict[int, str]:
    return {value: name for name, value in vars(kind).items() if isinstance(value, int)}


OPERATORS, TYPES = _names(schema.BuiltinOperator), _names(schema.TensorType)


@dataclass(frozen=True)
class _Node:
    """An operator as the file has it; tensors by their number."""

    name: str
    version: int
    custom: bool
    inputs: list[int]
    outputs: list[int]


@dataclass(frozen=True)
class _Graph:
    nodes: list[_Node]
    tensors: list[Tensor]

    @classmethod
    def read(cls, content: bytes) -> "_Graph":
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
            raise InputError(f"content must have one graph, got {model.SubgraphsLength()}.")
        graph = model.Subgraphs(0)
        return cls(
            [_node(model, graph.Operators(i)) for i in range(graph.OperatorsLength())],
            [_tensor(model, graph.Tensors(i)) for i in range(graph.TensorsLength())],
        )

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


def _node(model: Any, node: Any) -> _Node:
    code = model.OperatorCodes(node.OpcodeIndex())
    # Files from before there were more than 127 operators have the number in another field.
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    custom = builtin == schema.BuiltinOperator.CUSTOM
    return _Node(
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


def _ready(content: bytes, resolver: OpResolverType) -> Interpreter:
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    try:
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"content cannot be made ready to run: {reason}") from error
    return interpreter


def _in_xnnpack(content: bytes, graph: _Graph) -> set[int]:
    """Numbers of the nodes that XNNPACK takes.

    An interpreter has no public method for that. The private one lists the nodes of the file and
    behind them those that stand for a delegate's part, with the tensors that go in and come out.
    """
    nodes = _ready(content, OpResolverType.BUILTIN)._get_ops_details()[len(graph.nodes) :]
    parts = [graph.between(node["inputs"], node["outputs"]) for node in nodes]
    return set().union(*parts)


def _off_gpu(content: bytes) -> set[int]:
    """Numbers of the nodes that the GPU delegate does not take.

    TensorFlow's analyzer asks the delegate's own check, and gives its answer in print alone.
    """
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        tf.lite.experimental.Analyzer.analyze(model_content=content, gpu_compatibility=True)
    lists = re.findall(r"compatibility issues at nodes ([\d, ]+)", printed.getvalue())
    return {int(number) for line in lists for number in re.findall(r"\d+", line)}
