"""Training benchmark on Fashion-MNIST (`make bench-fashion`)."""
