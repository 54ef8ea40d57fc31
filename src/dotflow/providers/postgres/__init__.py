"""What StoragePostgres and HistoryPostgres share: connection strings, connections, errors and texts."""
