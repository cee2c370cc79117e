"""One file a family of encoders: waveforms → hidden states (L, B, T, D) and lengths (B,)."""
