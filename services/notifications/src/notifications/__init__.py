"""The notifications service of Plant-Based Pizza."""
