"""Published task heads, one file each: plain tensor code that runs under ``torch.func.vmap``."""
