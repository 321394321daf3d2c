"""The loyalty service of Plant-Based Pizza."""
