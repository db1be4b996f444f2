"""Who runs an actor: a pool of threads, an asyncio loop, a thread of its own."""
