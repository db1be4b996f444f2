"""Field types: what the types of a signature are called in a prompt, how their values are written and checked."""
