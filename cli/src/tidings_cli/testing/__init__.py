"""Pytest fixtures that run real programs, for tests of services."""
