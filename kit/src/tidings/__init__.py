"""Event subscriptions for Dapr."""
