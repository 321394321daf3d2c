"""The archive's rules, without its database: dead letters, which events a replay takes, and how they are sent."""
