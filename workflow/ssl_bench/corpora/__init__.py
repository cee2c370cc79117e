"""One file a corpus kind: a data set's layout on disk → lhotse CutSets, one per split."""
