"""Storage of payments in a relational database."""
