"""Adapters of notifications: rendering and sending of e-mails."""
