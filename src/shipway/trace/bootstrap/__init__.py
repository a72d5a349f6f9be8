"""What is put before a user's script: its folder goes into PYTHONPATH, and nothing else imports it."""
