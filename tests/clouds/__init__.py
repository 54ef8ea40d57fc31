"""The clouds on this machine: servers that speak as they do, each in a process of its own."""
