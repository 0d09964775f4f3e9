"""Objectives of training: each takes a model and a batch and returns a loss and what to log."""
