"""Layers that compute the same as Keras' layers, but faster or by integer operations."""
