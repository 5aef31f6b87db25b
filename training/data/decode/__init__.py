"""Decodes image files to upright pixels."""
