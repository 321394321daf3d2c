"""The orders service of Plant-Based Pizza."""
