"""Optimizers and moving averages of weights."""
