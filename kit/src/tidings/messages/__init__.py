"""Events and their CloudEvents envelope."""
