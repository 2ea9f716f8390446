"""Sessions from a control plane over its REST API, or from one in the same process."""
