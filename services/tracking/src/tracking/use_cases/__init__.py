"""Use cases of tracking: the read model, its rebuild, and the changes that open streams show."""
