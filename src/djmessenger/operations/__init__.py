"""Internal: work of commands, system checks and admin pages on Pages, profiles, rows and the installation."""
