"""How a run is decided. It knows the contracts in `dotflow.abc`, never a provider."""
