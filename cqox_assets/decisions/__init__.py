"""Decisions: from evidence to a verdict with reasons."""
