"""A project in the Python notation, typed as strictly as an author may want."""
