"""The idx format of MNIST's files, for arrays of bytes."""

import numpy as np


def parse_idx(data: bytes) -> np.ndarray:
    """The uint8 array that an idx file holds."""
    rank = data[3]
    shape = np.frombuffer(data, ">u4", count=rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def format_idx(array: np.ndarray) -> bytes:
    """The idx file of a uint8 array."""
    uint8_code = 8
    header = bytes([0, 0, uint8_code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()
