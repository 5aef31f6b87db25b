"""What the families share: input, head, weights, padding, channel counts."""
