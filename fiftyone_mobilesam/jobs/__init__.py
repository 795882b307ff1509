"""Jobs: a source, the engine and a sink, with the books in order. Killed at any moment, the same call goes on."""
