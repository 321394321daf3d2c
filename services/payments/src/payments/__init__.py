"""The payments service of Plant-Based Pizza."""
