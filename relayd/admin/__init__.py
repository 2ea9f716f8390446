"""One relay over HTTP: live sessions, metrics, explanations, drain, captures."""
