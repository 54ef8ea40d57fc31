"""The command line: a thin skin over the library. `dotflow --help` lists the commands."""
