"""The project whose classes the documented sample policy names."""
