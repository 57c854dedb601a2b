"""VarioCLIP: where on Earth was this photo taken? The folders are the pipeline's stages, in the order of the data."""

import os

# The threads of a tensor operation wait for each other in a busy loop, which is lost time where another process wants
# the core. With shorter waits a training step on two cores takes 97 ms beside two busy processes, and not 240; alone it
# takes 28 ms either way. Here, because libgomp reads it when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
