"""The kitchen service of Plant-Based Pizza."""
