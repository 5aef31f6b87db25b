"""Benchmark of all networks as TFLite files of all kinds (`make tflite-matrix`)."""
