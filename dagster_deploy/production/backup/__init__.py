"""Dumps of Dagster's storage, base backups with the log shipped behind them, and the way back from both."""
