"""HTTP boundaries of every service: request checks, size limits and deadlines."""
