"""The reranker: load, save, and forward on packed batches."""
