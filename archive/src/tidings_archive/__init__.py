"""The archive service of Plant-Based Pizza."""
