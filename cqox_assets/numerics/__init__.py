"""Shared mathematics: arrays in, arrays out; knows no study and no estimator."""
