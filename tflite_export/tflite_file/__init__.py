"""Reads and writes a TFLite file: its operators, its metadata, its bytes."""
