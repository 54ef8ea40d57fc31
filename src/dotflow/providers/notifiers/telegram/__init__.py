"""The notifier for Telegram."""
