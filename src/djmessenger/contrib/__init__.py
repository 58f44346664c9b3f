"""What joins djmessenger to software that not everybody has."""
