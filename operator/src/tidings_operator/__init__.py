"""The operator: derives the configuration of Dapr and the SDK from EventSubscriptions, EventTypes and EventReplays."""
