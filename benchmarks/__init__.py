"""Benchmarks: commands that measure the figures in the documentation."""
