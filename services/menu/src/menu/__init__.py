"""The menu service of Plant-Based Pizza."""
