"""Every network as a TFLite file of every kind: `make tflite-matrix`."""
