"""`dotflow log`: files, records, filters and output."""
