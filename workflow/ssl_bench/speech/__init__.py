"""Generated speech: synthesis, sentences and augmentation."""
