"""One file a task: targets, head, loss, decoding, metric and its direction."""
