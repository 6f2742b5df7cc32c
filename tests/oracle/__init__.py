"""Runs reference numbers through the public interface."""
