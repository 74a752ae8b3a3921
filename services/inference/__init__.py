"""Inference: applies serving plans and answers predictions."""
