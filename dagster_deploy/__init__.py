"""Deployment: the definitions, the web server and its settings."""
