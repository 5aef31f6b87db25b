"""Reads and writes uint8 arrays in the idx format of MNIST's files."""

import numpy as np


def parse_idx(data: bytes) -> np.ndarray:
    """Returns the uint8 array in an idx file."""
    rank = data[3]
    shape = np.frombuffer(data, ">u4", count=rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def format_idx(array: np.ndarray) -> bytes:
    """Returns a uint8 array as an idx file."""
    uint8_code = 8
    header = bytes([0, 0, uint8_code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()
