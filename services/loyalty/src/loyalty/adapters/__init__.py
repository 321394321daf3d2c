"""How loyalty speaks with the world: here alone is known what the SaaS calls things."""
