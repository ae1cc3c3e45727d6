"""Encoder families, one file each. `variants` is torch-free; the models load when `mixmae.names.resolve` is called."""
