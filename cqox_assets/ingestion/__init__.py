"""Ingestion: from a file of any common kind to one typed table."""
