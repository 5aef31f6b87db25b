"""Settings of a run, and recipes of settings."""
