"""Mapping: from a table and a declaration to a study whose columns have roles."""
