"""Layers, and training by minibatches."""
