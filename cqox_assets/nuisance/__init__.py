"""Nuisance: propensity and outcome models, fitted once per study and shared."""
