"""The contracts that providers are tested against."""
