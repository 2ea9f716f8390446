"""Do the tests notice? Small changes of relayd's code, each of which has to make a test fail: docs/testing.md."""
