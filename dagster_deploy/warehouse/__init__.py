"""The warehouse as SQL tables: DuckDB views over stored results, and the same star in Postgres for BI tools."""
