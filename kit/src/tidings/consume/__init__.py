"""Handling of deliveries: handlers, inbox, retries, limits, dead letters and scheduled messages."""
