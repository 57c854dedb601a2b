"""VarioCLIP: where on Earth was this photo taken? The folders are the pipeline's stages, in the order of the data."""
