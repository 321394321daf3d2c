"""The delivery service of Plant-Based Pizza."""
