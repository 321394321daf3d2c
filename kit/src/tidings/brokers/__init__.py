"""Facts and administration of each broker."""
