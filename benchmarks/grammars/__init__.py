"""The parts of the benchmark of constrained decoding: schemas, vocabulary, backends and their worker."""
