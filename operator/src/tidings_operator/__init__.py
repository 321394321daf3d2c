"""The operator: EventSubscriptions, EventTypes and EventReplays into what Dapr and the kit understand."""
