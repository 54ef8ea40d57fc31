"""pandas: frames, series, indexes, arrays and scalars."""
