"""Trainer: decides when a model is trained, trains it in a process of its own, and gates what comes out."""
