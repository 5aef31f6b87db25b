"""A finished run as one HTML file."""

from training.reporting.report import write_report

__all__ = ["write_report"]
