"""What is fuzzed: in each module, ``check`` takes any bytes and raises if relayd does not bear them."""
