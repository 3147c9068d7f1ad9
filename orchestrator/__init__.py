"""The control plane: what the farm knows, decides and promises."""
