"""Runs a TFLite file. It needs LiteRT and NumPy, but not TensorFlow or Keras."""
