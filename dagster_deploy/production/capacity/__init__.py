"""Capacity: what a partition costs, measured, and what many of them need, with the arithmetic."""
