"""An app whose bot says back what it hears."""
