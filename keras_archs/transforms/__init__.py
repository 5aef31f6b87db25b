"""Transforms of a model: insert, fuse, freeze, rematerialize, quantise."""
