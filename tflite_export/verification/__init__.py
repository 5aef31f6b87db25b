"""Compares a TFLite file with its Keras model and rejects a file that is too far from it."""
