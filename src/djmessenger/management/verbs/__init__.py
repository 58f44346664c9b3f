"""What ``manage.py djmessenger`` can do, a module for each verb."""
