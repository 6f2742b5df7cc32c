"""Synthesis: what all results say together."""
