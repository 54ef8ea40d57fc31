"""The contracts that users may implement, and that our own providers sign."""
