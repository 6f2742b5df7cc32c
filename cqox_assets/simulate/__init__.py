"""Simulated designs with a known effect."""
