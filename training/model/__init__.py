"""Builds and compiles the model for a run's settings."""
