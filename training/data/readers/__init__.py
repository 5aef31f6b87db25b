"""Reads datasets from TFDS, folders and TFRecord files."""
