"""One file a step, named by its number; each says which one it follows."""
