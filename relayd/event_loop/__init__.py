"""The event loop kept free: long work in slices, the garbage collector at bay, and how late the loop is."""
