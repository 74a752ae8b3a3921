"""Outbound: SQL repositories, wire messages, the check of ONNX files, the projects' clocks."""
