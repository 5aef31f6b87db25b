"""12,000 images of Fashion-MNIST that ship with the package, so that training works offline."""
