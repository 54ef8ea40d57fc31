"""The notifier through Apprise."""
