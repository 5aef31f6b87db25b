"""Distributed training on several devices and machines."""
