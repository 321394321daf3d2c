"""The tracking service of Plant-Based Pizza."""
