"""Run folders, checkpoints, and stopping and resuming of runs."""
