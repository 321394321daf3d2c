"""Adapters of loyalty. Only they use the names of the SaaS."""
