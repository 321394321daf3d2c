"""The pickup service of Plant-Based Pizza."""
