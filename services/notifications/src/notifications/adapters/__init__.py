"""How notifications speaks with the world: what its e-mails look like, and how they are handed over."""
