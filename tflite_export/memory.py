"""The memory that a file takes while it runs."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

_ALIGNMENT = 64  # of tensors in the arena


def arena_bytes(content: bytes) -> int:
    """Size of the arena: input, output and all between, laid out so that dead tensors make room.

    As LiteRT's planner lays it out for its built-in kernels at batch 1. XNNPACK plans its own
    memory in the same way, but its size cannot be asked for; the weights that it packs come on top.
    No call gives the arena's size, so it is taken from the addresses of its tensors.
    """
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    interpreter.invoke()  # what an operator has of its own is made in its first run
    spans = []
    for details in interpreter.get_tensor_details():
        tensor = interpreter.tensor(details["index"])()
        if isinstance(tensor, np.ndarray):  # else a number or nothing, which has no address
            spans.append((tensor.ctypes.data, tensor.ctypes.data + tensor.nbytes))
    image = interpreter.tensor(interpreter.get_input_details()[0]["index"])().ctypes.data
    # Weights are elsewhere: the arena is what lies in one piece with the input.
    low, high = 0, 0
    for start, end in sorted(spans):
        if start > high + _ALIGNMENT:
            if low <= image < high:
                break
            low = start
        high = max(high, end)
    return high - low
