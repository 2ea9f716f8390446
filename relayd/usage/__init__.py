"""Usage records where no crash loses them, and on their way to whoever takes them."""
