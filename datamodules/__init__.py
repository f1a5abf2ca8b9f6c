"""The vocabulary: tasks, samples and shards; frames in, batches out."""
