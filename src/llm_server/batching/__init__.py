"""Group compatible unstructured work: embeddings, completions, offline batches."""
