"""Pre-train small HuBERT models on generated speech, with HuBERT's two-iteration recipe.

Everything here runs without the rest of the study's packages (torch, transformers and the speech
generator are enough), because it is run once, on a GPU machine, and its results are shipped.
"""
