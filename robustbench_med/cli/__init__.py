"""The command ``rbmed``: one small file per command. Only this package prints, and nothing else imports it."""
