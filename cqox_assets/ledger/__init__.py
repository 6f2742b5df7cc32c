"""Ledger: results rolled up over periods and domains."""
