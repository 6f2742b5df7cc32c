"""Diagnostics: numbers that speak for or against an assumption."""
