"""Evaluation of a run: metrics, plots, report and sanity checks."""
