"""The event loop kept free: long work in slices, no long garbage collections, and how late the loop is."""
