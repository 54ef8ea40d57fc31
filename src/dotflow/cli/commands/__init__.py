"""The commands, one module each, loaded when one is called for."""
