"""The storefront service of Plant-Based Pizza."""
